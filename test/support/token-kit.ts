/**
 * Tokens in one process: a folder, a store in memory, and a host that counts what is read of each file.
 */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import { nativeCalls } from '../../src/native/native.js';
import { MemoryTokenStore } from '../../src/offload/store/memory-store.js';
import { systemHost } from '../../src/operations/host.js';
import { readToken, type TokenReadOptions } from '../../src/operations/token/read.js';
import { verifyTokens } from '../../src/operations/token/verify.js';
import { type TokenWriteOptions, writeToken } from '../../src/operations/token/write.js';

/** Whoever is told how far work got, and uses the moment for something else. */
export function atStage(wanted: string, action: () => void): TokenWriteOptions['onStage'] {
  return async (stage) => {
    if (stage === wanted) action();
    return { update: () => undefined };
  };
}

/** Changes bytes of a file, and makes sure that they are read anew. */
export function poke(file: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  fsyncSync(fd);
  closeSync(fd);
}

/** Drops what memory holds of a file's content. */
export function forget(file: string): void {
  const fd = openSync(file, 'r');
  fsyncSync(fd);
  nativeCalls()?.dropPageCache(fd);
  closeSync(fd);
}

export class TokenKit {
  readonly folder: string;
  readonly store = new MemoryTokenStore();
  /** Bytes read of each file, by its name. */
  readonly reads = new Map<string, number>();
  readonly host = systemHost();

  constructor(folder: string) {
    this.folder = folder;
    const { fileSystem } = this.host;
    const open = async (...given: Parameters<typeof fileSystem.open>): Promise<RandomAccessFile> => {
      const file = await fileSystem.open(...given);
      const read = file.read.bind(file);
      file.read = async (buffer, offset) => {
        const count = await read(buffer, offset);
        const name = path.basename(given[0]);
        this.reads.set(name, (this.reads.get(name) ?? 0) + count);
        return count;
      };
      return file;
    };
    this.host = { ...this.host, fileSystem: { ...fileSystem, open } };
  }

  at(name: string): string {
    return path.join(this.folder, name);
  }

  read(source: string, output: string, more: Partial<TokenReadOptions> = {}) {
    return readToken(this.host, {
      path: this.at(source),
      output: this.at(output),
      store: this.store,
      ...more,
    });
  }

  write(tokens: string, target: string, more: Partial<TokenWriteOptions> = {}) {
    const names = { tokens: this.at(tokens), target: this.at(target) };
    return writeToken(this.host, { ...names, store: this.store, ...more });
  }

  verify(
    tokens: string,
    target: string,
    more: { offset?: number; tokenOffset?: number; length?: number } = {},
  ) {
    const names = { tokens: this.at(tokens), target: this.at(target) };
    return verifyTokens(this.host, { ...names, store: this.store, ...more });
  }
}

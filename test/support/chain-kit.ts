/**
 * Chains of real files for tests: made by the operations under test, filled through the editable contract.
 */
import path from 'node:path';
import { openChain } from '../../src/formats/chain.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import { create } from '../../src/operations/create.js';
import { openForEditing } from '../../src/operations/editing.js';
import { systemHost } from '../../src/operations/host.js';

export const host = systemHost();

/** Bytes for a place of the disk; whole sectors. */
export interface Patch {
  offset: number;
  bytes: Uint8Array;
}

/** Writes into an existing image in one go, as an editor of it does. */
export async function patchAll(file: string, patches: readonly Patch[]): Promise<void> {
  const editing = await openForEditing(host, file);
  try {
    for (const { offset, bytes } of patches) {
      const { places, commit } = await editing.image.prepareWrite(offset, bytes.length);
      for (const place of places) {
        const at = place.offset - offset;
        await place.file.write(bytes.subarray(at, at + place.length), place.fileOffset);
      }
      await commit();
    }
    await editing.image.flush();
  } finally {
    await editing.close();
  }
}

export const patch = (file: string, offset: number, bytes: Uint8Array): Promise<void> =>
  patchAll(file, [{ offset, bytes }]);

/** Everything a chain shows. */
export async function contentOf(file: string): Promise<Buffer> {
  const chain = await openChain(nodeFileSystem, file);
  try {
    const content = Buffer.alloc(chain.virtualSize, 0xee);
    await readDisk(chain, content, 0);
    return content;
  } finally {
    await chain.close();
  }
}

export interface ChainOptions {
  format: 'vhd' | 'vhdx';
  /** Bytes. */
  size: number;
  blockSize: number;
  baseType?: 'fixed' | 'dynamic';
  /** Called with each image once it is there, the base (0) first. */
  fill?: (file: string, depth: number) => Promise<void>;
}

/** A base `0.vhd` and `children` images over it, each over the one before. Answers their paths, base first. */
export async function makeChain(folder: string, children: number, options: ChainOptions): Promise<string[]> {
  const { format, size, blockSize, baseType = 'dynamic', fill } = options;
  const files: string[] = [];
  for (let depth = 0; depth <= children; depth += 1) {
    const file = path.join(folder, `${depth}.${format}`);
    const parent = files.at(-1);
    await create(
      host,
      parent === undefined
        ? { path: file, size, type: baseType, ...(baseType === 'dynamic' ? { blockSize } : {}) }
        : { path: file, type: 'differencing', parent, blockSize },
    );
    await fill?.(file, depth);
    files.push(file);
  }
  return files;
}

/**
 * Storage that fails while the set of snapshots changes: what was refused leaves nothing behind, what was open is
 * closed, and the disk goes on.
 */
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import type { FileSystem } from '../../../../src/io/file-system.js';
import type { RandomAccessFile } from '../../../../src/io/random-access-file.js';
import type { SnapshotSet } from '../../../../src/layers/snapshots.js';
import { CrashDisk } from '../../../support/crash-disk.js';
import { overriding } from '../../../support/overriding.js';
import { attachTo, FOLDER, IMAGE, namesOf, pattern, readAll } from '../../../support/snapshot-kit.js';

const SIZE = 8 * 4096;
const START = pattern(SIZE, 1);

class FailingDisk {
  readonly disk = new CrashDisk([[IMAGE, START]]);
  /** Files that are open, once for each time. */
  readonly open: string[] = [];
  /** What fails: `flush disk.img`. */
  readonly failing = new Set<string>();

  attach(): Promise<SnapshotSet> {
    return attachTo(this.#fileSystem()).then(({ set }) => set);
  }

  #fileSystem(): FileSystem {
    const { disk, open } = this;
    const inner = disk.fileSystem();
    return {
      ...inner,
      open: async (path, options) => {
        const file = await inner.open(path, options);
        open.push(path);
        return this.#watched(path, file);
      },
      createPending: async (path, options) => {
        this.#act('create', path);
        return inner.createPending(path, options);
      },
    };
  }

  #watched(path: string, file: RandomAccessFile): RandomAccessFile {
    const close = async (): Promise<void> => {
      this.open.splice(this.open.indexOf(path), 1);
      await file.close();
    };
    const flush = async (): Promise<void> => {
      this.#act('flush', path);
      await file.flush();
    };
    return overriding(file, { close, flush });
  }

  #act(what: string, path: string): void {
    if (!this.failing.has(`${what} ${path}`)) return;
    throw new VhdkitError('IO_FAILED', `${what} ${path} failed`, { context: { path } });
  }
}

describe('snapshots on storage that fails', () => {
  it('takes a snapshot back whose moment could not be made durable, and the disk goes on', async () => {
    const storage = new FailingDisk();
    const set = await storage.attach();
    await set.create({ name: 'old', kind: 'sparse', chunkSize: 4096 });
    storage.failing.add(`flush ${IMAGE}`);
    await expect(set.create({ name: 'new', kind: 'sparse' })).rejects.toMatchObject({ code: 'IO_FAILED' });
    storage.failing.clear();
    await set.volume.write(pattern(100, 2), 5000);
    expect(namesOf(set)).toEqual(['old']);
    expect(await readAll(set.view('old'))).toEqual(START);
    await set.create({ name: 'new', kind: 'sparse' });
    await set.close();
    expect(storage.open).toEqual([]);
    const again = await storage.attach();
    expect(namesOf(again)).toEqual(['old', 'new']);
    expect([...storage.disk.files().keys()].filter((name) => name.endsWith('.sparse'))).toHaveLength(2);
    await again.close();
  });

  it('closes everything, and says so, when the last flush fails', async () => {
    const storage = new FailingDisk();
    const set = await storage.attach();
    await set.create({ name: 'one', kind: 'sparse', chunkSize: 4096 });
    await set.volume.write(pattern(100, 2), 5000);
    storage.failing.add(`flush ${IMAGE}`);
    const first = set.close();
    // Whoever closes it as well is told the same, and not before it is done.
    await expect(set.volume.close()).rejects.toMatchObject({ code: 'IO_FAILED' });
    expect(storage.open).toEqual([]);
    await expect(first).rejects.toMatchObject({ code: 'IO_FAILED' });
  });

  it('has nothing open of a restore that could not be recorded', async () => {
    const storage = new FailingDisk();
    const set = await storage.attach();
    await set.create({ name: 'one', kind: 'sparse', chunkSize: 4096 });
    await set.volume.write(pattern(100, 2), 5000);
    storage.failing.add(`create ${FOLDER}/manifest.json`);
    await expect(set.restore('one')).rejects.toMatchObject({ code: 'IO_FAILED' });
    expect(storage.open.filter((path) => path.endsWith('settled'))).toEqual([]);
    storage.failing.clear();
    await set.restore('one');
    expect(await readAll(set.volume)).toEqual(START);
    await set.close();
    expect(storage.open).toEqual([]);
  });

  it('forgets the chunk size of a snapshot that was not made', async () => {
    const storage = new FailingDisk();
    const set = await storage.attach();
    const before = set.store.record.chunkSize;
    storage.failing.add(`create ${FOLDER}/manifest.json`);
    const refused = set.create({ name: 'one', kind: 'sparse', chunkSize: 4096 });
    await expect(refused).rejects.toMatchObject({ code: 'IO_FAILED' });
    storage.failing.clear();
    await set.create({ name: 'one', kind: 'sparse' });
    expect(set.store.record.chunkSize).toBe(before);
    expect([...storage.disk.files().keys()].filter((name) => name.endsWith('.sparse'))).toHaveLength(1);
    await set.close();
  });

  it('removes the device of a deleted snapshot before it is closed, also one that somebody was reading', async () => {
    const storage = new FailingDisk();
    const set = await storage.attach();
    await set.create({ name: 'one', kind: 'sparse', chunkSize: 4096 });
    let ended: () => void = () => undefined;
    const reading = set.holding(() => new Promise<void>((resolve) => (ended = resolve)));
    const deleted = set.delete('one');
    const closed = set.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    ended();
    await Promise.all([reading, closed]);
    expect([...storage.disk.files().keys()]).toEqual([IMAGE]);
    await deleted;
    expect([...storage.disk.files().keys()]).toEqual([IMAGE]);
    expect(storage.open).toEqual([]);
  });
});

/**
 * The system's files, and new files that are complete or not there.
 */
import { existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { nativeCalls } from '../../../src/native/native.js';

/** Storage that gives fewer bytes than the file has: the kernel says a page, and answers with a word. */
const SHORT_OF_ITS_SIZE = '/sys/kernel/mm/transparent_hugepage/enabled';

let folder: string;
beforeEach(async () => {
  folder = await fs.mkdtemp(join(tmpdir(), 'vhdkit-io-'));
});
afterEach(() => fs.rm(folder, { recursive: true, force: true }));

async function writable(name: string) {
  const path = join(folder, name);
  await fs.writeFile(path, '');
  return nodeFileSystem.open(path, { writable: true });
}

describe('NodeFile', () => {
  it('reads and writes at offsets, and answers a short count only at the end', async () => {
    const file = await writable('a');
    await file.write(Buffer.from('hello'), 1000);
    expect(file.size()).toBe(1005);
    const buffer = Buffer.alloc(10, 'x');
    expect(await file.read(buffer, 998)).toBe(7);
    expect(buffer.toString()).toBe('\0\0helloxxx');
    expect(await file.read(buffer, 5000)).toBe(0);
    await file.close();
  });

  it.skipIf(!existsSync(SHORT_OF_ITS_SIZE))('never passes off missing bytes as the end', async () => {
    const file = await nodeFileSystem.open(SHORT_OF_ITS_SIZE);
    expect(file.size()).toBeGreaterThan(1000);
    await expect(file.read(Buffer.alloc(1000), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
    await file.close();
  });

  it.skipIf(!nativeCalls())('sees holes, and makes them', async () => {
    const file = await writable('a');
    const MiB = 1024 * 1024;
    await file.truncate(8 * MiB);
    await file.write(Buffer.alloc(MiB, 1), 4 * MiB);
    expect(file.nextData(0, 8 * MiB)).toEqual({ offset: 4 * MiB, length: MiB });
    expect(file.nextData(5 * MiB, 8 * MiB)).toBeUndefined();
    await file.zero(4 * MiB, MiB);
    expect(file.nextData(0, 8 * MiB)).toBeUndefined();
    expect(await file.allocatedBytes()).toBeLessThan(MiB);
    await file.close();
  });

  it('gives holes storage without changing what is shown, and grows', async () => {
    const file = await writable('a');
    const MiB = 1024 * 1024;
    await file.write(Buffer.from('kept'), MiB);
    await file.truncate(4 * MiB);
    const before = await file.allocatedBytes();
    await file.allocate?.(0, 5 * MiB);
    expect(file.size()).toBe(5 * MiB);
    expect(before).toBeLessThan(MiB);
    expect(await file.allocatedBytes()).toBeGreaterThanOrEqual(5 * MiB);
    const bytes = Buffer.alloc(5 * MiB, 1);
    expect(await file.read(bytes, 0)).toBe(5 * MiB);
    expect(bytes.equals(Buffer.alloc(5 * MiB).fill('kept', MiB, MiB + 4))).toBe(true);
    await file.close();
  });

  it('zeroes past the end by growing', async () => {
    const file = await writable('a');
    await file.write(Buffer.alloc(100, 1), 0);
    await file.zero(50, 10_000);
    expect(file.size()).toBe(10_050);
    const buffer = Buffer.alloc(10_050);
    await file.read(buffer, 0);
    expect(buffer.lastIndexOf(1)).toBe(49);
    await file.close();
  });

  it('changes its fingerprint when the content changes', async () => {
    const file = await writable('a');
    const before = file.fingerprint();
    await fs.writeFile(file.path, 'changed');
    expect(file.fingerprint()).not.toEqual(before);
    await file.close();
  });

  it('refuses everything after closing', async () => {
    const file = await writable('a');
    await file.close();
    await file.close();
    await expect(file.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
    expect(() => file.size()).toThrowError(expect.objectContaining({ code: 'IO_FAILED' }));
  });

  it('names file and offset when reading fails', async () => {
    const path = join(folder, 'a');
    await fs.writeFile(path, 'x');
    const file = await nodeFileSystem.open(path);
    await expect(file.write(Buffer.alloc(1), 7)).rejects.toMatchObject({
      context: { path, offset: 7, length: 1 },
    });
    await file.close();
  });
});

describe('opening', () => {
  it('says what is wrong', async () => {
    await expect(nodeFileSystem.open(join(folder, 'no'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(nodeFileSystem.open(folder)).rejects.toMatchObject({ code: 'NOT_A_DISK' });
    await expect(nodeFileSystem.open('/dev/null')).rejects.toMatchObject({ code: 'NOT_A_DISK' });
  });

  it('tells files, folders and nothing apart', async () => {
    await fs.writeFile(join(folder, 'a'), '');
    expect(await nodeFileSystem.kind(join(folder, 'a'))).toBe('file');
    expect(await nodeFileSystem.kind(folder)).toBe('other');
    expect(await nodeFileSystem.kind(join(folder, 'b'))).toBe('absent');
    expect(await nodeFileSystem.kind(join(folder, 'a', 'b'))).toBe('absent');
  });
});

describe('a pending file', () => {
  it('is invisible under its name until it is published', async () => {
    const path = join(folder, 'disk.img');
    const pending = await nodeFileSystem.createPending(path);
    await pending.file.write(Buffer.from('data'), 0);
    expect(await nodeFileSystem.kind(path)).toBe('absent');
    await pending.publish();
    expect(await fs.readFile(path, 'utf8')).toBe('data');
    expect(await fs.readdir(folder)).toEqual(['disk.img']);
    await pending.discard();
    expect(await fs.readdir(folder)).toEqual(['disk.img']);
  });

  it('leaves nothing behind when discarded', async () => {
    const pending = await nodeFileSystem.createPending(join(folder, 'disk.img'));
    await pending.discard();
    await pending.discard();
    expect(await fs.readdir(folder)).toEqual([]);
  });

  it('replaces an existing file only when told to', async () => {
    const path = join(folder, 'disk.img');
    await fs.writeFile(path, 'old');
    await expect(nodeFileSystem.createPending(path)).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    const pending = await nodeFileSystem.createPending(path, { overwrite: true });
    await pending.file.write(Buffer.from('new'), 0);
    expect(await fs.readFile(path, 'utf8')).toBe('old');
    await pending.publish();
    expect(await fs.readFile(path, 'utf8')).toBe('new');
  });

  it('does not clobber a file that appeared while it was written', async () => {
    const path = join(folder, 'disk.img');
    const pending = await nodeFileSystem.createPending(path);
    await fs.writeFile(path, 'somebody else');
    await expect(pending.publish()).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    expect(await fs.readFile(path, 'utf8')).toBe('somebody else');
    expect(await fs.readdir(folder)).toEqual(['disk.img']);
  });

  it('replaces what a link points to, not the link', async () => {
    await fs.writeFile(join(folder, 'real'), 'old');
    await fs.symlink('real', join(folder, 'link'));
    const pending = await nodeFileSystem.createPending(join(folder, 'link'), { overwrite: true });
    await pending.file.write(Buffer.from('new'), 0);
    await pending.publish();
    expect(await fs.readFile(join(folder, 'real'), 'utf8')).toBe('new');
    expect((await fs.lstat(join(folder, 'link'))).isSymbolicLink()).toBe(true);
  });

  it('says when the folder is not there, or is no place for files', async () => {
    await expect(nodeFileSystem.createPending(join(folder, 'no', 'x'))).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await expect(nodeFileSystem.createPending(folder, { overwrite: true })).rejects.toMatchObject({
      code: 'NOT_A_DISK',
    });
  });
});

/**
 * compact is interrupted at every instant: the image opens, everything outside of free space is what it was,
 * and compacting what was left finishes.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readFreeSpace } from '../../src/guestfs/free-space-map.js';
import { compact } from '../../src/operations/compact.js';
import { CrashDisk, type CrashState } from '../support/crash-disk.js';
import { bufferReader } from '../support/guest-disk.js';
import { sparseFile } from '../support/guest-tree.js';
import { lacking } from '../support/requires.js';
import {
  crashDiskWith,
  errorsOf,
  hostOn,
  IMAGE,
  type ImageKind,
  KINDS,
  kindName,
  MiB,
  shownBy,
} from '../support/resize-kit.js';
import { must } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder } from '../support/tmp.js';

const SIZE = 9 * MiB;
const KEPT = [0, 3, 4];
const lacks = lacking('mke2fs', 'debugfs');

/** An ext2 of files of which most were deleted, and which of its bytes count. */
interface Model {
  content: Buffer;
  used: { offset: number; length: number }[];
}

async function model(): Promise<Model> {
  const folder = makeTempFolder('compact');
  const raw = path.join(folder, 'guest.raw');
  const tree = path.join(folder, 'tree');
  mkdirSync(tree);
  const names = [...Array(7).keys()];
  for (const index of names) writeFileSync(path.join(tree, `f${index}`), seededBytes(1.1 * MiB, index + 1));
  sparseFile(raw, SIZE);
  await must('mke2fs', ['-q', '-F', '-t', 'ext2', '-b', '1024', '-N', '32', '-d', tree, raw]);
  const removed = names.filter((index) => !KEPT.includes(index)).map((index) => `rm f${index}`);
  await must('debugfs', ['-w', '-f', '-', raw], { input: `${removed.join('\n')}\n` });
  const content = readFileSync(raw);
  const used: Model['used'] = [];
  let at = 0;
  for await (const { offset, length } of (await readFreeSpace(bufferReader(content), SIZE)).ranges()) {
    if (offset > at) used.push({ offset: at, length: offset - at });
    at = offset + length;
  }
  used.push({ offset: at, length: SIZE - at });
  return { content, used };
}

function expectKept(label: string, content: Buffer, { content: before, used }: Model): void {
  for (const { offset, length } of used) {
    const same = content.subarray(offset, offset + length).equals(before.subarray(offset, offset + length));
    if (!same) throw new Error(`${label}: ${length} bytes at ${offset} are not what they were`);
  }
}

async function expectSound(label: string, state: CrashState, kind: ImageKind, wanted: Model): Promise<void> {
  expectKept(label, (await shownBy(state, kind.format)).content, wanted);
  const errors = await errorsOf(state, kind.format);
  if (errors.length > 0) throw new Error(`${label}: ${errors.join(', ')}`);
}

const work = { path: IMAGE, freeSpace: true, zeroBlocks: true } as const;

describe.skipIf(lacks)(`compact that is interrupted${lacks}`, () => {
  let wanted: Model;

  beforeAll(async () => {
    wanted = await model();
  });

  it.each(KINDS.map((kind) => ({ kind, name: kindName(kind) })))('$name', async ({ kind }) => {
    const disk = await crashDiskWith(kind, wanted.content);
    const { format } = kind;
    disk.start();
    const done = await compact(hostOn(disk), { ...work, format });
    disk.stop();
    expect(done.reclaimed.freeSpace).toBeGreaterThanOrEqual(kind.format === 'vhdx' ? 2 * MiB : 3 * MiB);
    if (kind.type === 'dynamic') expect(done.moved.units).toBeGreaterThan(0);
    if (kind.type !== 'fixed') expect(done.after.fileSize).toBeLessThan(done.before.fileSize - MiB);
    const every = Math.max(1, Math.floor(disk.count / 24));
    let count = 0;
    for (const { state, label } of disk.states({ every, reorderings: 1 })) {
      await expectSound(label, state, kind, wanted);
      count += 1;
      if (count % 8 !== 0) continue;
      const again = new CrashDisk(state);
      const finished = await compact(hostOn(again), { ...work, format });
      expect(finished.after.allocatedBlocks).toBe(done.after.allocatedBlocks);
      expect(finished.after.fileSize).toBeLessThanOrEqual(done.after.fileSize + MiB);
      await expectSound(`again ${label}`, again.files(), kind, wanted);
    }
  });
});

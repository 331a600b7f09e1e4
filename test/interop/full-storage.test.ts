/**
 * Images on file systems that are full: what was accepted is durable after a flush, and giving blocks back makes room.
 * Read by qemu-img.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { KiB, MiB } from '../../src/base/bytes.js';
import { isVhdkitError } from '../../src/base/errors.js';
import type { BlockDevice } from '../../src/block/block-device.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import { create } from '../../src/operations/create.js';
import { systemHost } from '../../src/operations/host.js';
import { assertSound, openWritable } from '../support/device-kit.js';
import { mountNew } from '../support/mounts.js';
import { canMount, tool } from '../support/requires.js';
import { must } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const SIZE = 64 * MiB;
const BLOCK = 2 * MiB;

/** Whether there was no room for something. */
async function isRefused(work: Promise<void> | undefined): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    if (isVhdkitError(error) && error.code === 'NO_SPACE') return true;
    throw error;
  }
}

/** Leaves a file system so many bytes, or few more. */
async function leave(folder: string, bytes: number): Promise<void> {
  const ballast = path.join(folder, 'ballast');
  writeFileSync(ballast, '');
  const file = await nodeFileSystem.open(ballast, { writable: true });
  let size = 0;
  while (!(await isRefused(file.allocate?.(size, MiB)))) size += MiB;
  await file.truncate(size - bytes);
  await file.close();
}

/** Writes here and there until nothing more is accepted. Answers what was. */
async function fill(device: BlockDevice): Promise<Map<number, Buffer>> {
  const accepted = new Map<number, Buffer>();
  for (const length of [64 * KiB, 4 * KiB]) {
    for (let turn = 0; turn < 400; turn += 1) {
      const offset = (turn % 32) * BLOCK + Math.floor(turn / 32) * 128 * KiB + length;
      const bytes = Buffer.alloc(length, 1 + (turn % 250));
      if (await isRefused(device.write(bytes, offset))) break;
      accepted.set(offset, bytes);
    }
  }
  return accepted;
}

describe.each(['ext4', 'xfs'] as const)('on %s that is full', (kind) => {
  it.skipIf(!canMount(kind) || !tool('qemu-img')).each(['vhdx', 'vhd'] as const)(
    'a %s keeps what it accepted, and makes room by giving back',
    async (format) => {
      const mounted = mountNew(kind);
      onTestFinished(() => mounted.unmount());
      const file = path.join(mounted.path, `disk.${format}`);
      await create(systemHost(), { path: file, format, size: SIZE, blockSize: BLOCK });
      await leave(mounted.path, 4 * MiB);
      const device = await openWritable(file);
      const accepted = await fill(device);
      expect(accepted.size).toBeGreaterThan(10);
      await device.flush();
      const [first = 0] = accepted.keys();
      await device.trim(first - (first % BLOCK), BLOCK);
      await device.flush();
      await device.write(Buffer.alloc(512, 255), first);
      await device.close();
      await assertSound(file);
      const raw = path.join(testFolder('full'), 'disk.img');
      await must('qemu-img', ['convert', '-f', format === 'vhd' ? 'vpc' : format, '-O', 'raw', file, raw]);
      const content = readFileSync(raw);
      expect(content.subarray(first, first + 512)).toEqual(Buffer.alloc(512, 255));
      for (const [offset, bytes] of accepted) {
        if (offset < first - (first % BLOCK) || offset >= first - (first % BLOCK) + BLOCK)
          expect(content.subarray(offset, offset + bytes.length).equals(bytes), `at ${offset}`).toBe(true);
      }
    },
  );
});

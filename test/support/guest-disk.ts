/**
 * Disks with guest file systems, read the way free-space readers do.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FreeSpaceAnswer, VolumeRange } from '../../src/guestfs/free-space.js';
import type { ReadBytes } from '../../src/guestfs/partition-table.js';

/** All of a disk as one volume. */
export function wholeVolume(size: number): VolumeRange {
  return { offset: 0, length: size, name: 'whole disk' };
}

/** Runs something with a reader over a file; the reader fails on ranges that are not inside. */
export async function fileReader<T>(
  file: string,
  action: (read: ReadBytes, size: number) => Promise<T>,
): Promise<T> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const read: ReadBytes = async (offset, length) => {
      const buffer = new Uint8Array(length);
      const { bytesRead } = await handle.read(buffer, 0, length, offset);
      if (bytesRead !== length) throw new Error(`read outside the disk: ${offset}+${length} of ${size}`);
      return buffer;
    };
    return await action(read, size);
  } finally {
    await handle.close();
  }
}

/** The free ranges of an answer as [offset, length]. @throws when the volume is kept or not recognised */
export async function freeRangesOf(asked: Promise<FreeSpaceAnswer>): Promise<[number, number][]> {
  const answer = await asked;
  if (answer.status !== 'free') throw new Error(`not read: ${JSON.stringify(answer)}`);
  const ranges: [number, number][] = [];
  let sum = 0;
  for await (const { offset, length } of answer.space.ranges()) {
    ranges.push([offset, length]);
    sum += length;
  }
  if (sum !== answer.space.freeBytes) throw new Error(`${sum} bytes, ${answer.space.freeBytes} announced`);
  return ranges;
}

/** A reader over a disk in memory; it fails on ranges that are not inside. */
export function bufferReader(disk: Uint8Array): ReadBytes {
  return async (offset, length) => {
    if (!(offset >= 0 && length >= 0 && offset + length <= disk.length))
      throw new Error(`read outside the disk: ${offset}+${length} of ${disk.length}`);
    return disk.subarray(offset, offset + length);
  };
}

const CHUNK = 1024 * 1024;

/** Overwrites ranges of an image: whoever needs them finds out. */
export function overwriteRanges(file: string, ranges: readonly (readonly [number, number])[]): void {
  const rubbish = Buffer.alloc(CHUNK, 0xa5);
  const handle = openSync(file, 'r+');
  for (const [offset, length] of ranges)
    for (let at = 0; at < length; at += CHUNK)
      writeSync(handle, rubbish, 0, Math.min(CHUNK, length - at), offset + at);
  closeSync(handle);
}

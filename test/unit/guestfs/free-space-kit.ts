/**
 * Small volumes in memory whose used clusters are known, for readers of free space.
 *
 * `damage` is the fuzz property: whatever is written into a volume's structures, the reader either keeps the
 * volume or calls nothing free that the intact volume uses.
 */
import type { FreeSpaceReader } from '../../../src/guestfs/free-space.js';
import type { ByteRange } from '../../../src/io/random-access-file.js';
import { wholeVolume } from '../../support/guest-disk.js';
import { reader } from './disks.js';

export interface SmallVolume {
  disk: Buffer;
  clusterBytes: number;
  /** Bytes before the first cluster; all of them are used. */
  firstCluster: number;
  /** 1 for each used cluster. */
  used: Uint8Array;
  /** Where structures are: what fuzzing writes into. */
  structures: ByteRange[];
}

export interface Patch {
  offset: number;
  bytes: Uint8Array;
}

/** Free ranges, or why the volume is kept. `before` bytes of something else come first on the disk. */
export async function ask(
  freeSpace: FreeSpaceReader,
  volume: Uint8Array,
  before = 0,
): Promise<ByteRange[] | string> {
  const around = Buffer.alloc(before, 0x55);
  const disk = before === 0 ? volume : Buffer.concat([around, volume, around]);
  const answer = await freeSpace(reader(disk), { ...wholeVolume(volume.length), offset: before });
  if (answer.status === 'other') return 'other';
  if (answer.status === 'kept') return answer.reason;
  const ranges: ByteRange[] = [];
  for await (const range of answer.space.ranges()) ranges.push(range);
  const sum = ranges.reduce((total, { length }) => total + length, 0);
  if (sum !== answer.space.freeBytes)
    throw new Error(`${sum} free bytes, ${answer.space.freeBytes} announced`);
  return ranges;
}

/** The free ranges that a volume ought to have. */
export function expectedRanges({ clusterBytes, firstCluster, used }: SmallVolume, before = 0): ByteRange[] {
  const ranges: ByteRange[] = [];
  for (const [cluster, isUsed] of used.entries()) {
    if (isUsed) continue;
    const offset = before + firstCluster + cluster * clusterBytes;
    const last = ranges.at(-1);
    if (last && last.offset + last.length === offset) last.length += clusterBytes;
    else ranges.push({ offset, length: clusterBytes });
  }
  return ranges;
}

/** The first used byte that the ranges call free. */
export function lostByte(volume: SmallVolume, ranges: readonly ByteRange[]): number | undefined {
  const { clusterBytes, firstCluster, used } = volume;
  for (const { offset, length } of ranges) {
    if (offset < firstCluster) return offset;
    const first = Math.floor((offset - firstCluster) / clusterBytes);
    const end = Math.ceil((offset + length - firstCluster) / clusterBytes);
    const lost = used.subarray(first, end).indexOf(1);
    if (lost >= 0) return firstCluster + (first + lost) * clusterBytes;
  }
  return undefined;
}

/** Applies patches, asks, and takes them back. Undefined: kept (or not recognised). */
export async function damage(
  volume: SmallVolume,
  freeSpace: FreeSpaceReader,
  patches: readonly Patch[],
): Promise<{ lost: number | undefined } | undefined> {
  const { disk } = volume;
  const old = patches.map(({ offset, bytes }) =>
    Uint8Array.from(disk.subarray(offset, offset + bytes.length)),
  );
  try {
    for (const { offset, bytes } of patches) disk.set(bytes, offset);
    const ranges = await ask(freeSpace, disk);
    return typeof ranges === 'string' ? undefined : { lost: lostByte(volume, ranges) };
  } finally {
    for (const [index, { offset }] of [...patches.entries()].reverse()) disk.set(old[index] ?? [], offset);
  }
}

/** A patch of one field, for tests that name what they damage. */
export function patch(offset: number, value: number | bigint, width: 1 | 2 | 4 | 8 = 1): Patch {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return { offset, bytes: bytes.subarray(0, width) };
}

/** A copy of the disk with patches. */
export function patched({ disk }: SmallVolume, ...patches: readonly Patch[]): Buffer {
  const copy = Buffer.from(disk);
  for (const { offset, bytes } of patches) copy.set(bytes, offset);
  return copy;
}

/** The byte of the structures with this index. */
export function structureByte({ structures }: SmallVolume, index: number): number {
  let left = index % structures.reduce((sum, { length }) => sum + length, 0);
  for (const { offset, length } of structures) {
    if (left < length) return offset + left;
    left -= length;
  }
  throw new Error('no structures');
}

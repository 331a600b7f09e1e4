/**
 * From a stream to ranges of a disk: windows of whole sectors, with what the stream does not cover of the
 * first and last sector read from the disk.
 *
 * Invariants: windows are in disk order and end at multiples of the window size (the last one excepted), so
 * that large writes meet blocks as wholes; two buffers take turns, so a window stays as it is until the one
 * after the next is asked for.
 */
import { MiB, roundDown, roundUp } from '../../base/bytes.js';
import type { Locator } from '../../block/extent.js';
import { readDisk } from '../../formats/image-reader.js';

const WINDOW = MiB;

/** A part of the stream, at its place on the disk. */
export interface Window {
  offset: number;
  bytes: Uint8Array;
}

/**
 * The stream from `offset` of the disk on. What would lie at or behind `end` is not handed out; then the
 * generator's result is true. Chunks of the input need to be valid only until the next step.
 */
export async function* streamWindows(
  input: AsyncIterable<Uint8Array>,
  offset: number,
  end: number,
): AsyncGenerator<Window, boolean> {
  const buffers = [new Uint8Array(WINDOW), new Uint8Array(WINDOW)] as const;
  let turn = 0;
  let start = offset;
  let filled = 0;
  for await (const chunk of input) {
    for (let at = 0; at < chunk.length; ) {
      if (start + filled >= end) return true;
      const buffer = buffers[turn & 1] as Uint8Array;
      const limit = Math.min(roundDown(start, WINDOW) + WINDOW, end) - start;
      const count = Math.min(limit - filled, chunk.length - at);
      buffer.set(chunk.subarray(at, at + count), filled);
      at += count;
      filled += count;
      if (filled < limit) continue;
      yield { offset: start, bytes: buffer.subarray(0, filled) };
      turn += 1;
      start += filled;
      filled = 0;
    }
  }
  if (filled > 0) yield { offset: start, bytes: (buffers[turn & 1] as Uint8Array).subarray(0, filled) };
  return false;
}

/**
 * The window widened to whole sectors, with the disk's own bytes around it. The window itself when it
 * consists of whole sectors.
 */
export async function wholeSectors(disk: Locator, window: Window, sectorSize: number): Promise<Window> {
  const { offset, bytes } = window;
  const stop = offset + bytes.length;
  const start = roundDown(offset, sectorSize);
  const end = Math.min(roundUp(stop, sectorSize), disk.virtualSize);
  if (start === offset && end === stop) return window;
  const wide = new Uint8Array(end - start);
  if (start < offset) await readSector(disk, wide, start, start, sectorSize);
  if (end > stop) await readSector(disk, wide, start, roundDown(stop, sectorSize), sectorSize);
  wide.set(bytes, offset - start);
  return { offset: start, bytes: wide };
}

/** Reads the sector at `offset` into its place in a buffer that begins at `base`. */
async function readSector(
  disk: Locator,
  buffer: Uint8Array,
  base: number,
  offset: number,
  sectorSize: number,
): Promise<void> {
  const at = offset - base;
  await readDisk(disk, buffer.subarray(at, Math.min(at + sectorSize, buffer.length)), offset);
}

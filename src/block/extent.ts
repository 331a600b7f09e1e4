/**
 * Extents: what a disk range resolves to. The currency between formats, offload and operations.
 *
 * A list of extents always covers the asked range exactly, in order, without gaps or overlaps.
 */
import type { RandomAccessFile } from '../io/random-access-file.js';

/** The bytes are in a file. `offset` is the place on the virtual disk. */
export interface DataExtent {
  state: 'data';
  offset: number;
  length: number;
  file: RandomAccessFile;
  fileOffset: number;
}

/** The range reads as zeros and has no stored bytes. */
export interface ZeroExtent {
  state: 'zero';
  offset: number;
  length: number;
}

/** This image does not say: ask the parent. Only differencing images answer so. */
export interface AbsentExtent {
  state: 'absent';
  offset: number;
  length: number;
}

export type Extent = DataExtent | ZeroExtent | AbsentExtent;

/** An extent of a chain, with the depth of the image that answered (0 is the top). */
export type ChainExtent = Extent & { depth: number };

/** Where bytes of the disk are to be put: `[offset, offset + length)` of the disk lives at `fileOffset`. */
export interface Place {
  offset: number;
  length: number;
  file: RandomAccessFile;
  fileOffset: number;
}

/**
 * A write in progress. The caller puts the bytes into `places` (in order, covering the asked range
 * exactly), then commits; until then the disk shows its old content. After `abort` the places are free.
 */
export interface PreparedWrite {
  readonly places: readonly Place[];
  commit(): Promise<void>;
  abort(): Promise<void>;
}

/** Something that says where the bytes of a disk are. */
export interface Locator {
  readonly virtualSize: number;
  /** @throws OUT_OF_RANGE, IMAGE_CORRUPT, IO_FAILED */
  locate(offset: number, length: number): Promise<Extent[]>;
}

function joins(a: Extent, b: Extent): boolean {
  if (a.state !== b.state || a.offset + a.length !== b.offset) return false;
  if ((a as Partial<ChainExtent>).depth !== (b as Partial<ChainExtent>).depth) return false;
  if (a.state !== 'data' || b.state !== 'data') return true;
  return a.file === b.file && a.fileOffset + a.length === b.fileOffset;
}

/** Appends an extent, growing the last one when the two are contiguous on the disk and in the file. */
export function pushExtent<T extends Extent>(extents: T[], extent: T): void {
  if (extent.length === 0) return;
  const last = extents.at(-1);
  if (last && joins(last, extent)) last.length += extent.length;
  else extents.push({ ...extent });
}

/** The same for places: contiguous neighbours become one. */
export function pushPlace(places: Place[], place: Place): void {
  const last = places.at(-1);
  if (
    last &&
    last.file === place.file &&
    last.offset + last.length === place.offset &&
    last.fileOffset + last.length === place.fileOffset
  ) {
    last.length += place.length;
  } else if (place.length > 0) {
    places.push({ ...place });
  }
}

/** The part of an extent inside `[offset, offset + length)`. The two must overlap. */
export function clipExtent<T extends Extent>(extent: T, offset: number, length: number): T {
  const start = Math.max(extent.offset, offset);
  const end = Math.min(extent.offset + extent.length, offset + length);
  const clipped: T = { ...extent, offset: start, length: end - start };
  if (clipped.state === 'data' && extent.state === 'data')
    clipped.fileOffset = extent.fileOffset + (start - extent.offset);
  return clipped;
}

/**
 * Bytes of the disk located in one call while walking all of it: bounds the number of extents held at a
 * time (a window of alternating 512-byte sectors is about 16 MiB of objects).
 */
export const LOCATE_WINDOW = 64 * 1024 * 1024;

/**
 * All extents of a range, merged across windows, with flat memory.
 * `maxLength` bounds one extent (for progress and cancellation).
 */
export async function* walkExtents<T extends Extent>(
  locator: { locate(offset: number, length: number): Promise<T[]> },
  range: { offset: number; length: number },
  maxLength = Number.MAX_SAFE_INTEGER,
): AsyncGenerator<T> {
  const end = range.offset + range.length;
  let open: T | undefined;
  for (let at = range.offset; at < end; ) {
    const length = Math.min(LOCATE_WINDOW, end - at);
    for (const extent of await locator.locate(at, length)) {
      if (open && joins(open, extent) && open.length + extent.length <= maxLength) {
        open.length += extent.length;
      } else {
        if (open) yield open;
        open = { ...extent };
      }
    }
    at += length;
  }
  if (open) yield open;
}

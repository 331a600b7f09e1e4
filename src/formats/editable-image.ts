/**
 * The editable image contract: an existing image that is open for writing.
 *
 * Invariants: what was committed or changed is durable after `flush`, which puts data first and then the
 * metadata that names it; a process that dies at any instant leaves an image that opens and in which every
 * sector shows what it was before, or what was being written to it. Nothing is written before the first
 * change: an image that was opened for writing and closed again is the same byte for byte.
 *
 * Not here: which image of a chain is written to, locks, what a change means for children (operations).
 */
import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';
import type { PreparedWrite } from '../block/extent.js';
import type { DiskImage } from './disk-image.js';

/** What opening for writing takes. */
export interface WriteAccess {
  clock: Clock;
  random: RandomSource;
  /**
   * The `linkId` that the image takes with its first visible change, where a format's link id stands for
   * its content (VHDX: DataWriteGuid). Default: a random one. Ignored where the id stays (VHD).
   */
  nextLinkId?: string;
}

/** A parent as a child is to remember it. Paths are in the notation of this host. */
export interface NewParentLink {
  /**
   * Ids of which the parent has or will have one: its `linkId`, and during a merge (VHDX) the one that its
   * change will give it. VHD knows one only, which does not change.
   */
  ids: readonly [string] | readonly [string, string];
  absolutePath: string;
  /** From the child's folder; undefined where there is no such path (another drive). */
  relativePath: string | undefined;
  /** The parent file's last modification, milliseconds since 1970 (VHD keeps it). */
  modified: number;
}

export interface ResizeOptions {
  /**
   * Size of what lies beneath a differencing image: parts of it that come into view must read as zeros,
   * not as what the parent has there.
   */
  parentSize?: number;
}

export interface GiveBackOptions {
  /**
   * The caller knows that the disk shows the same afterwards (zeros that were stored, bytes the parent has
   * too): storage changes hands, content does not, and the `linkId` stays.
   */
  unchanged?: boolean;
}

export interface EditableImage extends DiskImage {
  /**
   * As in DiskImage, for ranges of whole logical sectors (the disk's end excepted). A place that already
   * holds the range is handed out as it is: what is put there shows at once, as on a disk. In new blocks
   * the rest reads as before (zero, or the parent's).
   * @throws INVALID_ARGUMENT (not whole sectors), OUT_OF_RANGE, TARGET_TOO_SMALL, IO_FAILED
   */
  prepareWrite(offset: number, length: number): Promise<PreparedWrite>;
  /**
   * Makes a range of whole sectors read as zeros with as little storage as the format allows; never shows
   * the parent there.
   */
  zero(offset: number, length: number, options?: GiveBackOptions): Promise<void>;
  /**
   * Forgets what is stored in the range: it reads as zeros, or as the parent has it. Only what the format
   * can forget (whole blocks; in differencing images whole sectors too). Answers the bytes of storage that
   * became free.
   */
  discard(offset: number, length: number, options?: GiveBackOptions): Promise<number>;
  /**
   * Changes the size of the virtual disk; a shrunk one loses what lies behind. New parts read as zeros.
   * Durable when it returns. `virtualSize` and `locate` go by the new size afterwards.
   * @throws INVALID_ARGUMENT, TARGET_TOO_SMALL, UNSUPPORTED (a device), NO_SPACE, IO_FAILED
   */
  resize(virtualSize: number, options?: ResizeOptions): Promise<void>;
  /**
   * Names another parent, or the same one elsewhere. Durable when it returns; at every instant the image
   * names either the old or the new one. Does not count as a visible change.
   * @throws UNSUPPORTED (not a differencing image, no room), IO_FAILED
   */
  setParent(link: NewParentLink): Promise<void>;
}

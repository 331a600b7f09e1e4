/**
 * The relocatable image contract: an editable image whose stored units can be moved within its file, which
 * is what compaction and defragmentation do.
 *
 * A unit is what moves as a whole: a block's payload with its bitmap (VHD), a payload block or a sector
 * bitmap block (VHDX). Invariants: units overlap neither each other nor what is immovable; everything else
 * in the file is free. Moving units is no visible change: the image keeps its `linkId`.
 *
 * Deliberately not here: copying bytes (offload does) and deciding what goes where (operations).
 */
import type { ByteRange } from '../io/random-access-file.js';
import type { EditableImage } from './editable-image.js';

/** Where a unit is in the file. Bytes. */
export interface StoredUnit {
  /** Names the unit for `relocate`; grows with its place on the disk. */
  readonly id: number;
  readonly fileOffset: number;
  readonly length: number;
  /**
   * `payload`: a block (with its bitmap, VHD); `bitmap`: a sector bitmap block (VHDX); `anchor`: a place
   * that a block without payload holds on to (VHDX soft anchors): it can't be moved, only dropped.
   */
  readonly kind: 'payload' | 'bitmap' | 'anchor';
}

export interface RelocatableImage extends EditableImage {
  /**
   * All units in the order of the disk, as they are after what was committed. Not to be changed while it is
   * walked.
   * @throws IMAGE_CORRUPT when a unit can't be where the tables say
   */
  units(): AsyncIterable<StoredUnit>;
  /** Parts of the file where no unit may lie, in file order, without overlaps. */
  immovable(): readonly ByteRange[];
  /** Smallest and default alignment of payload in the file, bytes. */
  readonly payloadAlignment: { smallest: number; usual: number };
  /** The lowest offset at or after `offset` where a unit may begin, so that its payload is aligned. */
  placeFrom(offset: number, alignment?: number): number;
  /**
   * To be called before bytes are copied to places that end at or before `end`: the file may have to be
   * prepared for something to lie there. Everything else must be flushed.
   */
  makeRoom(end: number): Promise<void>;
  /**
   * Says that the unit's bytes are at `fileOffset` now, where the caller put them. Durable after `flush`,
   * which makes the bytes durable first; until then nothing may be written over the old place.
   * The caller has copied the whole unit.
   */
  relocate(id: number, fileOffset: number): Promise<void>;
  /** Gives an anchor's place back. No visible change: the block reads as before. Durable after `flush`. */
  dropAnchor(id: number): Promise<void>;
  /** Length of the file after `trim` when the last unit or structure ends at `end`, bytes. */
  lengthFor(end: number): number;
  /**
   * Cuts off what lies behind the last unit and structure, flushes, and answers the bytes the file lost.
   * To be called with everything flushed.
   */
  trim(): Promise<number>;
}

export function isRelocatable(image: EditableImage): image is RelocatableImage {
  return 'relocate' in image;
}

/**
 * Where a block's bitmap and data are, from its BAT entry, and whether they can be there.
 *
 * Invariant: an entry is used as an offset only after `judgeEntry` accepted it: the block lies inside the
 * usable part of the file and touches no other structure. Sector numbers are multiplied as doubles (up to
 * 2 TiB), never with bit operators.
 *
 * The end of the file may cut a block off. That is accepted where no content can be lost by it: the disk's
 * last block, cut behind the disk's end; or cut within by a writer that then put its footer there, in which
 * case the missing part reads as zeros. Without a footer at the end the file itself is incomplete, and
 * the missing part is an error unless the caller asked for tolerance.
 *
 * Deliberately not here: overlap between blocks, which takes the whole table (check.ts).
 */
import type { VhdDefect } from './defects.js';
import { type BlockTable, SECTOR_BYTES } from './dynamic-header.js';

/** A half-open range of the file that blocks must not touch. */
export interface MetadataRange {
  name: string;
  start: number;
  end: number;
}

/** What entries are judged against. Bytes. */
export interface BlockRules {
  table: BlockTable;
  virtualSize: number;
  /** Where the usable part of the file ends: the footer, or the file's length without one. */
  limit: number;
  /** False when the file ends without a footer, so that something may be missing. */
  complete: boolean;
  tolerant: boolean;
  metadata: readonly MetadataRange[];
}

/** Byte offsets of a block in the file. `dataEnd` is where its stored data ends, cut or not. */
export interface BlockPlace {
  bitmapOffset: number;
  dataOffset: number;
  dataEnd: number;
}

export interface EntryProblem {
  defect: VhdDefect;
  message: string;
}

/** The place that an entry names, unchecked except that `dataEnd` respects the limit. */
export function placeOf(entry: number, rules: BlockRules): BlockPlace {
  const bitmapOffset = entry * SECTOR_BYTES;
  const dataOffset = bitmapOffset + rules.table.bitmapBytes;
  const dataEnd = Math.min(dataOffset + rules.table.blockSize, Math.max(rules.limit, dataOffset));
  return { bitmapOffset, dataOffset, dataEnd };
}

/** True when the missing tail of a cut block may be taken for zeros. */
function cutIsFine(block: number, place: BlockPlace, rules: BlockRules): boolean {
  if (rules.tolerant) return true;
  if (block !== rules.table.blocks - 1) return false;
  const used = rules.virtualSize - block * rules.table.blockSize;
  return rules.complete || place.dataOffset + used <= place.dataEnd;
}

/** What is wrong with the entry of a block; undefined when it can be used. */
export function judgeEntry(block: number, entry: number, rules: BlockRules): EntryProblem | undefined {
  const place = placeOf(entry, rules);
  const wholeEnd = place.dataOffset + rules.table.blockSize;
  for (const range of rules.metadata) {
    if (place.bitmapOffset < range.end && range.start < wholeEnd) {
      return {
        defect: 'VHD_BAT_ENTRY_IN_METADATA',
        message: `block ${block} is said to be at ${place.bitmapOffset}, over ${range.name}`,
      };
    }
  }
  if (place.dataOffset > rules.limit) {
    return {
      defect: 'VHD_BAT_ENTRY_OUTSIDE_FILE',
      message: `block ${block} is said to be at ${place.bitmapOffset}, outside the file`,
    };
  }
  if (place.dataEnd < wholeEnd && !cutIsFine(block, place, rules)) {
    return {
      defect: 'VHD_BLOCK_CUT',
      message: `block ${block} at ${place.bitmapOffset} is cut off by the end of the file`,
    };
  }
  return undefined;
}

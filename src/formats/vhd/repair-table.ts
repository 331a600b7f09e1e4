/**
 * Which entries of a VHD's block table can't be true, and taking them out.
 *
 * Invariants: of blocks that share a place one stays: the one that is in order (between the places of its
 * neighbours on the disk), else the first on the disk. An entry is changed in a write of the one sector that it
 * is in, so every crash leaves some entries dropped and all others as they were.
 *
 * Blocks that the file's end cuts off stay: the file is made long enough for them (repair-footers.ts).
 */
import { DropList } from '../drop-list.js';
import type { StructureRepair } from '../repair.js';
import { type BlockAllocationTable, UNALLOCATED } from './bat.js';
import { type BlockRules, judgeEntry, placeOf } from './block-place.js';
import type { VhdDefect } from './defects.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import type { SparseStructures } from './structures.js';

export interface TableDiagnosis {
  drops: DropList;
  /** Where the last block that stays ends, whole; 0 without blocks. */
  end: number;
  /** A block is cut off by the end of the file. */
  isCut: boolean;
}

interface Candidate {
  block: number;
  entry: number;
}

/** Places of blocks of one size, found by a place's number in units of that size. */
class ClaimedPlaces {
  readonly #stride: number;
  readonly #claims = new Map<number, Candidate>();

  constructor(stride: number) {
    this.#stride = stride;
  }

  /** Claims a place; answers who has (part of) it already. */
  claim(candidate: Candidate): Candidate | undefined {
    const bucket = Math.floor(candidate.entry / this.#stride);
    for (const near of [bucket - 1, bucket, bucket + 1]) {
      const other = this.#claims.get(near);
      if (other && Math.abs(other.entry - candidate.entry) < this.#stride) return other;
    }
    this.#claims.set(bucket, candidate);
    return undefined;
  }
}

/** Why an entry can't be used however long the file is. */
function impossible(block: number, entry: number, rules: BlockRules): [VhdDefect, string] | undefined {
  const problem = judgeEntry(block, entry, rules);
  if (!problem || problem.defect === 'VHD_BLOCK_CUT') return undefined;
  return [problem.defect, problem.message];
}

/** Entries of blocks that can be where they are said to be, with those before and after on the disk. */
async function* usable(
  bat: BlockAllocationTable,
  rules: BlockRules,
): AsyncGenerator<{ here: Candidate; isInOrder: boolean }> {
  let before: Candidate | undefined;
  let here: Candidate | undefined;
  for await (const { first, entries } of bat.pages()) {
    for (const [index, entry] of entries.entries()) {
      const block = first + index;
      if (entry === UNALLOCATED || impossible(block, entry, rules)) continue;
      if (here) {
        yield { here, isInOrder: (before?.entry ?? -1) < here.entry && here.entry < entry };
        before = here;
      }
      here = { block, entry };
    }
  }
  if (here) yield { here, isInOrder: (before?.entry ?? -1) < here.entry };
}

function strideOf(rules: BlockRules): number {
  return (rules.table.bitmapBytes + rules.table.blockSize) / SECTOR_BYTES;
}

/** Reads the whole table, twice. @throws IO_FAILED, IMAGE_CORRUPT (the file ends within the table) */
export async function diagnoseTable(
  structures: SparseStructures,
  bat: BlockAllocationTable,
  rules: BlockRules,
): Promise<TableDiagnosis> {
  const { table } = rules;
  const drops = new DropList();
  const drop = (block: number, entry: number, defect: VhdDefect, reason: string): void => {
    drops.add({
      block,
      diskOffset: block * table.blockSize,
      length: Math.min(table.blockSize, structures.virtualSize - block * table.blockSize),
      entryOffset: bat.entryOffset(block),
      fileOffset: entry * SECTOR_BYTES,
      entry: entry.toString(16).padStart(8, '0'),
      defect,
      reason,
    });
  };
  for await (const { first, entries } of bat.pages()) {
    for (const [index, entry] of entries.entries()) {
      if (entry === UNALLOCATED) continue;
      const found = impossible(first + index, entry, rules);
      if (found) drop(first + index, entry, ...found);
    }
  }
  const places = new ClaimedPlaces(strideOf(rules));
  const late: Candidate[] = [];
  let end = 0;
  let isCut = false;
  const stay = (candidate: Candidate): void => {
    const other = places.claim(candidate);
    const { block, entry } = candidate;
    const at = entry * SECTOR_BYTES;
    if (other) drop(block, entry, 'VHD_BLOCKS_OVERLAP', `shares its place with block ${other.block}`);
    else {
      const wholeEnd = at + strideOf(rules) * SECTOR_BYTES;
      end = Math.max(end, wholeEnd);
      isCut ||= placeOf(entry, rules).dataEnd < wholeEnd;
    }
  };
  for await (const { here, isInOrder } of usable(bat, rules)) {
    if (isInOrder) stay(here);
    else late.push(here);
  }
  for (const candidate of late) stay(candidate);
  return { drops, end, isCut };
}

/** Takes entries out, a sector of the table at a time. Not flushed. */
export async function dropEntries(structures: SparseStructures, drops: DropList): Promise<void> {
  const { file, table } = structures;
  for (const [sectorAt, blocks] of sectorsOfEntries(drops, table.offset)) {
    const sector = new Uint8Array(SECTOR_BYTES);
    const count = await file.read(sector, sectorAt);
    const view = new DataView(sector.buffer);
    for (const block of blocks) view.setUint32(table.offset + block * 4 - sectorAt, UNALLOCATED);
    await file.write(sector.subarray(0, count), sectorAt);
  }
}

function sectorsOfEntries(drops: DropList, tableOffset: number): Map<number, number[]> {
  const sectors = new Map<number, number[]>();
  for (const block of drops.blocks) {
    const at = tableOffset + block * 4;
    const sectorAt = at - (at % SECTOR_BYTES);
    const blocks = sectors.get(sectorAt) ?? [];
    blocks.push(block);
    sectors.set(sectorAt, blocks);
  }
  return sectors;
}

/** What the repair answers. */
export function repairOf(drops: DropList): StructureRepair {
  return { dropped: drops.listed(), droppedCount: drops.count };
}

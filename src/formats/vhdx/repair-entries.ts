/**
 * What the entries of a VHDX's block table should be.
 *
 * Invariants: of blocks that share space one stays: sector bitmaps before payload, payload that is in order
 * (between its neighbours' places) before other payload, then the first on the disk; places that blocks without
 * payload merely hold on to come last. What an entry means stays the same unless it is dropped.
 *
 * Not changed, because nothing says what was meant: states that do not exist, partially present blocks without a
 * sector bitmap or without a parent, misplaced sector bitmaps that blocks depend on.
 */
import { MiB } from '../../base/bytes.js';
import {
  type BatEntry,
  type BatGeometry,
  BITMAP_STATE,
  BLOCK_STATE,
  decodeEntry,
  encodeEntry,
  SECTOR_BITMAP_MIB,
} from './bat.js';
import { viewOf } from './binary.js';
import type { VhdxDefect } from './defects.js';
import { HEADER_SECTION_END, MAX_FILE_OFFSET } from './layout.js';
import type { OwnedRanges } from './region-table.js';
import { SpaceMap } from './space-map.js';

/** What entries are judged against. */
export interface EntryRules {
  geometry: BatGeometry;
  hasParent: boolean;
  occupied: OwnedRanges;
  /** Bytes, after log replay. */
  fileSize: number;
}

/** Which entry of the table: a block's, a chunk's sector bitmap's, or one that stands for nothing. */
export type EntryRole = { kind: 'payload'; block: number } | { kind: 'bitmap' } | { kind: 'spare' };

export function roleOf(index: number, { geometry, hasParent }: EntryRules): EntryRole {
  const stride = geometry.chunkRatio + 1;
  const inChunk = index % stride;
  const chunk = Math.floor(index / stride);
  const block = chunk * geometry.chunkRatio + inChunk;
  if (inChunk < geometry.chunkRatio)
    return block < geometry.blocks ? { kind: 'payload', block } : { kind: 'spare' };
  return chunk < geometry.chunks && hasParent ? { kind: 'bitmap' } : { kind: 'spare' };
}

export interface Problem {
  defect: VhdxDefect;
  reason: string;
}

export function holdsPayload({ state }: BatEntry): boolean {
  return state === BLOCK_STATE.fullyPresent || state === BLOCK_STATE.partiallyPresent;
}

/** A place that a block without payload keeps: states undefined, unmapped, and the draft's unmapped. */
export function holdsAnchor({ state, offsetMiB }: BatEntry): boolean {
  const keeps = state === BLOCK_STATE.undefined || state === BLOCK_STATE.unmapped || state === 5;
  return keeps && offsetMiB !== 0;
}

/** Why nothing can be at the place; undefined when something can. */
export function misplaced(entry: BatEntry, lengthMiB: number, rules: EntryRules): Problem | undefined {
  const start = entry.offsetMiB * MiB;
  const { fileSize, occupied } = rules;
  if (start < HEADER_SECTION_END || start >= Math.min(fileSize, MAX_FILE_OFFSET))
    return { defect: 'VHDX_BAT_ENTRY_OUTSIDE_FILE', reason: `outside the file of ${fileSize} bytes` };
  const owner = occupied.find(start, start + lengthMiB * MiB);
  return owner && { defect: 'VHDX_BAT_ENTRY_IN_METADATA', reason: `inside ${owner.name}` };
}

/** Who has which space, filled in the order of precedence. */
export class Claims {
  readonly #space = new SpaceMap();
  readonly #late = new Set<number>();
  readonly #rules: EntryRules;

  constructor(rules: EntryRules) {
    this.#rules = rules;
  }

  /** False, and nothing is taken, when any of it belongs to another. */
  take(entry: BatEntry, lengthMiB: number): boolean {
    const first = entry.offsetMiB;
    if (this.#space.findFree(first, first + lengthMiB, lengthMiB) !== first) return false;
    this.#space.take(first, lengthMiB);
    return true;
  }

  /** First round: payload in order. What was too late is remembered for the second. */
  takeInOrder(index: number, entry: BatEntry): void {
    if (!this.take(entry, this.#rules.geometry.blockSize / MiB)) this.#late.add(index);
  }

  wasLate(index: number): boolean {
    return this.#late.has(index);
  }
}

/** The eight bytes of an entry. */
export function entryBytes(state: number, offsetMiB: number): Uint8Array {
  const bytes = new Uint8Array(8);
  encodeEntry(viewOf(bytes), 0, state, offsetMiB);
  return bytes;
}

/** What a payload entry that stays should be. `anchorStays`: whether its kept place is its own. */
export function rightPayload(entry: BatEntry, anchorStays: boolean): Uint8Array {
  const { state, offsetMiB } = entry;
  if (holdsPayload(entry) || state === 4) return entryBytes(state, offsetMiB);
  const right = state === BLOCK_STATE.legacyUnmapped ? BLOCK_STATE.unmapped : state;
  return entryBytes(right, anchorStays && holdsAnchor(entry) ? offsetMiB : 0);
}

/** What a sector bitmap's entry should be; as it is where nothing says what was meant. */
export function rightBitmap(entry: BatEntry, hasPartial: boolean, rules: EntryRules): Uint8Array {
  const { state, offsetMiB } = entry;
  if (state === BITMAP_STATE.notPresent) return entryBytes(state, 0);
  const useless = misplaced(entry, SECTOR_BITMAP_MIB, rules) !== undefined && !hasPartial;
  return useless && state === BITMAP_STATE.present ? entryBytes(0, 0) : entryBytes(state, offsetMiB);
}

/** One table entry as stored. */
export function entryAt(view: DataView, at: number): BatEntry {
  return decodeEntry(view.getUint32(at, true), view.getUint32(at + 4, true));
}

/**
 * Goes over a VHDX's block table and puts its entries right (repair-entries.ts says how).
 *
 * Invariant: memory is bounded: pages of the table, a bit per MiB of the file, the list of dropped entries.
 */
import { MiB } from '../../base/bytes.js';
import { throwIfAborted } from '../../base/errors.js';
import { isZero } from '../../base/zeros.js';
import { DropList } from '../drop-list.js';
import { BAT_ENTRY_LENGTH, type BatEntry, BLOCK_STATE, SECTOR_BITMAP_MIB } from './bat.js';
import { viewOf } from './binary.js';
import { HEADER_SECTION_END } from './layout.js';
import type { TablePages } from './page-cache.js';
import { PAGE_LENGTH } from './page-cache.js';
import type { OwnedRange } from './region-table.js';
import {
  Claims,
  type EntryRole,
  type EntryRules,
  entryAt,
  holdsAnchor,
  holdsPayload,
  misplaced,
  type Problem,
  rightBitmap,
  rightPayload,
  roleOf,
} from './repair-entries.js';

/** An entry that has to change. `offset` is its place in the file. */
export interface EntryChange {
  offset: number;
  bytes: Uint8Array;
}

interface Row {
  index: number;
  offset: number;
  entry: BatEntry;
  stored: Uint8Array;
  role: EntryRole;
}

export interface TableRepair {
  drops: DropList;
  /** Where the file has to reach so that no block that stays is cut off; 0 without blocks. */
  end: number;
}

export class TableDoctor {
  readonly #pages: TablePages;
  readonly #bat: OwnedRange;
  readonly #rules: EntryRules;
  readonly #claims: Claims;
  readonly #signal: AbortSignal | undefined;

  constructor(pages: TablePages, bat: OwnedRange, rules: EntryRules, signal?: AbortSignal) {
    this.#pages = pages;
    this.#bat = bat;
    this.#rules = rules;
    this.#claims = new Claims(rules);
    this.#signal = signal;
  }

  /**
   * Calls back with every entry that has to change, in the order of the table.
   * @throws IMAGE_CORRUPT (VHDX_TRUNCATED), IO_FAILED, CANCELLED
   */
  async examine(change: (change: EntryChange) => Promise<void>): Promise<TableRepair> {
    await this.#claimBitmaps();
    await this.#claimInOrder();
    const result: TableRepair = { drops: new DropList(), end: 0 };
    let hasPartial = false;
    for await (const row of this.#rows()) {
      const { role, entry } = row;
      if (role.kind === 'payload') {
        hasPartial ||= entry.state === BLOCK_STATE.partiallyPresent;
        if (!holdsAnchor(entry)) await this.#payload(row, result, change);
      } else {
        const isBitmap = role.kind === 'bitmap';
        const right = isBitmap ? rightBitmap(entry, hasPartial, this.#rules) : new Uint8Array(8);
        await this.#settle(row, right, change);
        if (isBitmap) hasPartial = false;
      }
    }
    for await (const row of this.#rows()) {
      if (row.role.kind !== 'payload' || !holdsAnchor(row.entry)) continue;
      const stays =
        !misplaced(row.entry, this.#blockMiB, this.#rules) && this.#claims.take(row.entry, this.#blockMiB);
      await this.#settle(row, rightPayload(row.entry, stays), change);
    }
    return result;
  }

  get #blockMiB(): number {
    return this.#rules.geometry.blockSize / MiB;
  }

  async #payload(
    row: Row,
    result: TableRepair,
    change: (change: EntryChange) => Promise<void>,
  ): Promise<void> {
    const { entry, index } = row;
    const problem = holdsPayload(entry) ? this.#problem(row, this.#inOrder(index)) : undefined;
    if (problem) {
      this.#drop(row, problem, result.drops);
      await this.#settle(row, new Uint8Array(8), change);
      return;
    }
    if (holdsPayload(entry)) result.end = Math.max(result.end, (entry.offsetMiB + this.#blockMiB) * MiB);
    await this.#settle(row, rightPayload(entry, false), change);
  }

  #problem({ entry, index }: Row, wasInOrder: boolean): Problem | undefined {
    const found = misplaced(entry, this.#blockMiB, this.#rules);
    if (found) return found;
    const has = wasInOrder && !this.#claims.wasLate(index);
    if (has || (!wasInOrder && this.#claims.take(entry, this.#blockMiB))) return undefined;
    return { defect: 'VHDX_BAT_ENTRY_OVERLAP', reason: 'shares space with another block' };
  }

  #drop({ role, entry, offset, stored }: Row, { defect, reason }: Problem, drops: DropList): void {
    if (role.kind !== 'payload') return;
    const { blockSize, virtualSize } = this.#rules.geometry;
    const diskOffset = role.block * blockSize;
    drops.add({
      block: role.block,
      diskOffset,
      length: Math.min(blockSize, virtualSize - diskOffset),
      entryOffset: offset,
      fileOffset: entry.offsetMiB * MiB,
      entry: viewOf(stored).getBigUint64(0, true).toString(16).padStart(16, '0'),
      defect,
      reason,
    });
  }

  async #settle(row: Row, right: Uint8Array, change: (change: EntryChange) => Promise<void>): Promise<void> {
    if (Buffer.compare(row.stored, right) !== 0) await change({ offset: row.offset, bytes: right });
  }

  async #claimBitmaps(): Promise<void> {
    if (!this.#rules.hasParent) return;
    for await (const { role, entry } of this.#rows()) {
      if (role.kind !== 'bitmap' || entry.state !== 6) continue;
      if (!misplaced(entry, SECTOR_BITMAP_MIB, this.#rules)) this.#claims.take(entry, SECTOR_BITMAP_MIB);
    }
  }

  /** Indices of payload in order are few to remember the other way round: those out of order. */
  readonly #disordered = new Set<number>();

  #inOrder(index: number): boolean {
    return !this.#disordered.has(index);
  }

  async #claimInOrder(): Promise<void> {
    let before = -1;
    let here: Row | undefined;
    const finish = (row: Row, next: number): void => {
      const isInOrder = before < row.entry.offsetMiB && row.entry.offsetMiB < next;
      if (isInOrder) this.#claims.takeInOrder(row.index, row.entry);
      else this.#disordered.add(row.index);
      before = row.entry.offsetMiB;
    };
    for await (const row of this.#rows()) {
      const counts = row.role.kind === 'payload' && holdsPayload(row.entry);
      if (!counts || misplaced(row.entry, this.#blockMiB, this.#rules)) continue;
      if (here) finish(here, row.entry.offsetMiB);
      here = row;
    }
    if (here) finish(here, Number.POSITIVE_INFINITY);
  }

  /** Entries that are not all zero, as they are stored when the page is come to. */
  async *#rows(): AsyncGenerator<Row> {
    const { geometry, hasParent } = this.#rules;
    const behindBitmaps = hasParent ? geometry.chunks * (geometry.chunkRatio + 1) * BAT_ENTRY_LENGTH : 0;
    for (let at = 0; at < this.#bat.length; at += PAGE_LENGTH) {
      throwIfAborted(this.#signal, 'repair');
      const page = await this.#pages.load(this.#bat.offset + at);
      const bytes = new Uint8Array(page.buffer, page.byteOffset, page.byteLength).slice();
      if (at >= behindBitmaps && isZero(bytes)) continue;
      const view = viewOf(bytes);
      for (let within = 0; within < PAGE_LENGTH; within += BAT_ENTRY_LENGTH) {
        if (view.getUint32(within, true) === 0 && view.getUint32(within + 4, true) === 0) {
          // A chunk's bitmap entry ends the chunk, zero or not.
          const role = roleOf((at + within) / BAT_ENTRY_LENGTH, this.#rules);
          if (role.kind !== 'bitmap') continue;
        }
        const index = (at + within) / BAT_ENTRY_LENGTH;
        yield {
          index,
          offset: this.#bat.offset + at + within,
          entry: entryAt(view, within),
          stored: bytes.subarray(within, within + BAT_ENTRY_LENGTH),
          role: roleOf(index, this.#rules),
        };
      }
    }
  }
}

/** Where log, regions and headers end. */
export function structuresEnd(ranges: Iterable<OwnedRange>): number {
  let end = HEADER_SECTION_END;
  for (const { offset, length } of ranges) end = Math.max(end, offset + length);
  return end;
}

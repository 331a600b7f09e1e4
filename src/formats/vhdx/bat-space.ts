/**
 * The BAT as a table that grows, shrinks and moves.
 *
 * Invariant: a table is moved by copying it into space that nothing names, and then naming that in both region
 * tables through one log entry (MS-VHDX 2.2.3: region tables may be changed by the log).
 */
import { KiB, MiB } from '../../base/bytes.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { BAT_ENTRY_LENGTH, type BatGeometry, bitmapIndex, neededEntries, payloadIndex } from './bat.js';
import { readExact } from './binary.js';
import type { EditContext } from './edit-context.js';
import { REGION_GUID, REGION_TABLE_OFFSETS } from './layout.js';
import { LOG_SECTOR, type LogUpdate } from './log-codec.js';
import { movedRegionTable, type OwnedRange } from './region-table.js';
import { SpaceMap } from './space-map.js';

const COPY_LENGTH = 1024 * KiB;
/** Two ranges with two ends each. */
const EDGE_SECTORS = 4;

/** A change of the table that was prepared: to be written together with what is in the pages. */
export interface ClearedEntries {
  updates: LogUpdate[];
  /** To be called once they are written. */
  done(): void;
}

/**
 * Clears every entry that a disk of the larger size has and one of the smaller has not. Whole sectors become
 * ranges of zeros in the log, so that any number of entries fits into one of its entries.
 * @param more sectors that the caller is going to change before it writes
 */
export async function clearEntries(
  context: EditContext,
  smaller: BatGeometry,
  larger: BatGeometry,
  more: number,
): Promise<ClearedEntries> {
  const { pages, structures } = context;
  await pages.reserve(EDGE_SECTORS + more);
  const { hasParent } = structures.metadata;
  const end = neededEntries(larger, hasParent);
  const first = payloadIndex(smaller, smaller.blocks);
  // The bitmap entry of the last chunk comes behind the places of blocks that the chunk does not have yet.
  const kept = bitmapIndex(smaller, smaller.chunks - 1);
  const ranges =
    kept > first || kept === first
      ? [[first, kept] as const, [kept + 1, end] as const]
      : [[first, end] as const];
  const updates: LogUpdate[] = [];
  for (const [from, to] of ranges) {
    const { offset } = structures.regions.bat;
    const start = offset + Math.min(from, end) * BAT_ENTRY_LENGTH;
    const stop = offset + Math.min(to, end) * BAT_ENTRY_LENGTH;
    updates.push(...(await clearRange(context, start, stop)));
  }
  return {
    updates,
    done() {
      for (const update of updates) if ('zeros' in update) pages.forget(update.offset, update.zeros);
    },
  };
}

/** Partial sectors are changed in the pages; the whole ones between are returned. */
async function clearRange(context: EditContext, start: number, stop: number): Promise<LogUpdate[]> {
  if (start >= stop) return [];
  const clear = (from: number, to: number): Promise<void> =>
    context.pages.change(from, to - from, (bytes) => bytes.fill(0));
  const firstWhole = Math.ceil(start / LOG_SECTOR) * LOG_SECTOR;
  const lastWhole = Math.floor(stop / LOG_SECTOR) * LOG_SECTOR;
  if (firstWhole > lastWhole) {
    await clear(start, stop);
    return [];
  }
  if (start < firstWhole) await clear(start, firstWhole);
  if (lastWhole < stop) await clear(lastWhole, stop);
  return firstWhole < lastWhole ? [{ offset: firstWhole, zeros: lastWhole - firstWhole }] : [];
}

/** Gives the table another, larger place. Durable when it returns. */
export async function moveBat(context: EditContext, length: number): Promise<void> {
  await context.write();
  const { file, space, structures } = context;
  const { bat, all } = structures.regions;
  const offset = await space.claim(length, true);
  await copyTable(file, bat, offset);
  const moved: OwnedRange = { name: bat.name, offset, length };
  await context.write(await regionTableUpdates(file, moved));
  const regions = {
    ...structures.regions,
    bat: moved,
    all: all.map((region) => (region.offset === bat.offset ? moved : region)),
  };
  context.pages.forget(offset, length);
  context.adopt({ regions });
  const freed = new SpaceMap();
  freed.take(bat.offset / MiB, bat.length / MiB);
  await space.giveBack(freed);
}

async function copyTable(file: RandomAccessFile, bat: OwnedRange, to: number): Promise<void> {
  for (let at = 0; at < bat.length; at += COPY_LENGTH) {
    const part = Math.min(COPY_LENGTH, bat.length - at);
    await file.write(await readExact(file, bat.offset + at, part, bat.name), to + at);
  }
}

/** The sectors of both copies that differ from what they are to be: a damaged copy is mended with it. */
async function regionTableUpdates(file: RandomAccessFile, bat: OwnedRange): Promise<LogUpdate[]> {
  const table = await movedRegionTable(file, REGION_GUID.bat, { offset: bat.offset, length: bat.length });
  const updates: LogUpdate[] = [];
  for (const tableOffset of REGION_TABLE_OFFSETS) {
    const old = new Uint8Array(table.length);
    await file.read(old, tableOffset);
    for (let at = 0; at < table.length; at += LOG_SECTOR) {
      const page = table.subarray(at, at + LOG_SECTOR);
      if (Buffer.compare(page, old.subarray(at, at + LOG_SECTOR)) === 0) continue;
      updates.push({ offset: tableOffset + at, page: page.slice() });
    }
  }
  return updates;
}

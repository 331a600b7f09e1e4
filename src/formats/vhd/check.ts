/**
 * Examines the block table and the sector bitmaps of a dynamic or differencing VHD.
 *
 * Invariants: one pass over the BAT plus, where blocks overlap, a second; overlaps are found by sorting,
 * never pairwise. Memory: four bytes for each allocated block (64 MiB for the largest table accepted), and
 * a bounded number of findings: after that many of one kind only their count is reported.
 *
 * Deliberately not here: footers and header, which `open` has judged already.
 */
import { throwIfAborted } from '../../base/errors.js';
import type { CheckOptions } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { type BlockAllocationTable, UNALLOCATED } from './bat.js';
import { batmapRanges } from './batmap.js';
import { type BlockRules, judgeEntry, type MetadataRange, placeOf } from './block-place.js';
import { bitmapsMatter, hidesData } from './check-bitmaps.js';
import { checkFooterValues } from './check-footer.js';
import { finding, type VhdDefect } from './defects.js';
import { SECTOR_BYTES } from './dynamic-header.js';
import type { SparseStructures } from './structures.js';

/** Findings of one kind that are listed one by one. */
const MAX_OF_A_KIND = 32;

/** Collects findings with a bound on each kind. */
class Findings {
  readonly #list: Finding[] = [];
  readonly #counts = new Map<VhdDefect, { count: number; last: Finding }>();

  add(code: VhdDefect, severity: Finding['severity'], message: string, offset: number): void {
    const count = (this.#counts.get(code)?.count ?? 0) + 1;
    const found = finding(code, severity, message, offset, true);
    this.#counts.set(code, { count, last: found });
    if (count <= MAX_OF_A_KIND) this.#list.push(found);
  }

  /** True when another finding of the kind would only be counted. */
  full(code: VhdDefect): boolean {
    return (this.#counts.get(code)?.count ?? 0) >= MAX_OF_A_KIND;
  }

  all(): Finding[] {
    const out = [...this.#list];
    for (const { count, last } of this.#counts.values()) {
      const more = count - MAX_OF_A_KIND;
      if (more > 0)
        out.push({ ...last, message: `and ${more} more of this kind; the last: ${last.message}` });
    }
    return out;
  }
}

/** Sector numbers of blocks that can be where they are said to be, in order of the disk. */
async function acceptedEntries(
  bat: BlockAllocationTable,
  rules: BlockRules,
  findings: Findings,
  { signal }: CheckOptions,
): Promise<Uint32Array> {
  let accepted = new Uint32Array(1024);
  let count = 0;
  for await (const { first, entries } of bat.pages()) {
    throwIfAborted(signal, 'check');
    for (const [index, entry] of entries.entries()) {
      if (entry === UNALLOCATED) continue;
      const block = first + index;
      const problem = judgeEntry(block, entry, rules);
      if (problem) {
        findings.add(problem.defect, 'error', problem.message, bat.entryOffset(block));
        continue;
      }
      noteCut(block, entry, rules, findings, bat);
      if (count === accepted.length) {
        const larger = new Uint32Array(count * 2);
        larger.set(accepted);
        accepted = larger;
      }
      accepted[count] = entry;
      count += 1;
    }
  }
  return accepted.subarray(0, count);
}

/** A cut that `judgeEntry` let pass is still worth knowing; an error when content is missing. */
function noteCut(
  block: number,
  entry: number,
  rules: BlockRules,
  findings: Findings,
  bat: BlockAllocationTable,
): void {
  const place = placeOf(entry, rules);
  if (place.dataEnd === place.dataOffset + rules.table.blockSize) return;
  const used = Math.min(rules.table.blockSize, rules.virtualSize - block * rules.table.blockSize);
  const lost = place.dataOffset + used - place.dataEnd;
  const message =
    lost > 0
      ? `block ${block} is cut off: ${lost} bytes of it are missing and read as zeros`
      : `block ${block} ends with the disk rather than with the block`;
  findings.add('VHD_BLOCK_CUT', lost > 0 ? 'error' : 'note', message, bat.entryOffset(block));
}

/** Sectors at which a block begins inside its predecessor (or at the same place), from sorted sectors. */
function overlappingSectors(sorted: Uint32Array, strideSectors: number): Set<number> {
  const overlapping = new Set<number>();
  for (let index = 1; index < sorted.length && overlapping.size < MAX_OF_A_KIND * 2; index += 1) {
    const before = sorted[index - 1] ?? 0;
    const here = sorted[index] ?? 0;
    if (here - before >= strideSectors) continue;
    overlapping.add(before);
    overlapping.add(here);
  }
  return overlapping;
}

async function reportOverlaps(
  bat: BlockAllocationTable,
  rules: BlockRules,
  overlapping: ReadonlySet<number>,
  findings: Findings,
): Promise<void> {
  for await (const { first, entries } of bat.pages()) {
    for (const [index, entry] of entries.entries()) {
      if (!overlapping.has(entry) || judgeEntry(first + index, entry, rules)) continue;
      const block = first + index;
      const message = `block ${block} at ${entry * SECTOR_BYTES} shares its place with another block`;
      findings.add('VHD_BLOCKS_OVERLAP', 'error', message, bat.entryOffset(block));
    }
  }
}

/** Room for a whole block between two blocks, or between the last one and the end, is space lost. */
function reportUnusedSpace(
  sorted: Uint32Array,
  rules: BlockRules,
  metadata: readonly MetadataRange[],
  findings: Findings,
): void {
  const stride = rules.table.bitmapBytes + rules.table.blockSize;
  const report = (start: number, end: number): void => {
    const taken = metadata.some((range) => range.start < end && range.end > start);
    if (end - start < stride || taken) return;
    findings.add('VHD_UNUSED_SPACE', 'leak', `${end - start} bytes at ${start} belong to no block`, start);
  };
  let previousEnd: number | undefined;
  for (const entry of sorted) {
    const start = entry * SECTOR_BYTES;
    if (previousEnd !== undefined) report(previousEnd, start);
    previousEnd = Math.max(previousEnd ?? 0, start + stride);
  }
  // Without a block there is no telling a leak from room that was kept free for a larger table.
  if (previousEnd !== undefined) report(previousEnd, rules.limit);
}

/** Only disjoint blocks: the work is then bounded by the length of the file. */
async function checkBitmaps(
  structures: SparseStructures,
  sorted: Uint32Array,
  findings: Findings,
  options: CheckOptions,
): Promise<void> {
  if (!bitmapsMatter(structures)) return;
  for (const [index, entry] of sorted.entries()) {
    if (findings.full('VHD_BITMAP_HIDES_DATA')) return;
    throwIfAborted(options.signal, 'check');
    options.onProgress?.(index, sorted.length);
    if (!(await hidesData(structures, entry))) continue;
    const at = entry * SECTOR_BYTES;
    const message = `the sector bitmap at ${at} says zero for sectors that hold data; readers disagree about them`;
    findings.add('VHD_BITMAP_HIDES_DATA', 'warning', message, at);
  }
}

/** What entries are judged against when all structures count, batmap and locators included. */
export async function blockRules(structures: SparseStructures): Promise<BlockRules> {
  const { file, table, limit, locators, rules } = structures;
  const metadata: MetadataRange[] = [
    ...rules.metadata,
    ...(await batmapRanges(file, table, limit)),
    ...locators.map(({ code, offset, length }) => ({
      name: `the parent locator ${code}`,
      start: offset,
      end: offset + length,
    })),
  ];
  return { ...rules, metadata };
}

/** @throws IMAGE_CORRUPT (the file ends within the BAT), IO_FAILED */
export async function checkSparse(
  structures: SparseStructures,
  bat: BlockAllocationTable,
  options: CheckOptions = {},
): Promise<Finding[]> {
  const { table, locators } = structures;
  const findings = new Findings();
  const rules = await blockRules(structures);
  const sorted = (await acceptedEntries(bat, rules, findings, options)).sort();
  const strideSectors = (table.bitmapBytes + table.blockSize) / SECTOR_BYTES;
  const overlapping = overlappingSectors(sorted, strideSectors);
  if (overlapping.size > 0) {
    await reportOverlaps(bat, rules, overlapping, findings);
  } else {
    const rooms = locators.map(({ code, offset, room }) => ({
      name: code,
      start: offset,
      end: offset + room,
    }));
    reportUnusedSpace(sorted, rules, [...rules.metadata, ...rooms], findings);
    await checkBitmaps(structures, sorted, findings, options);
  }
  return [...checkFooterValues(structures), ...findings.all()];
}

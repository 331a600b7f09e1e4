/**
 * Examining a whole VHDX: one pass over the BAT.
 *
 * Invariant: bounded memory whatever the image claims: the table is read in chunks, space is a bit per
 * MiB, and of each kind of defect the first few are listed and the rest are counted. Findings of severity
 * `error` are those that make contents wrong or unreadable.
 *
 * Not here: repairing; what opening already found comes in as the image's warnings.
 */
import { formatSize, MiB } from '../../base/bytes.js';
import { throwIfAborted } from '../../base/errors.js';
import { isZero } from '../../base/zeros.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CheckOptions } from '../disk-image.js';
import type { Finding, Severity } from '../finding.js';
import {
  BAT_ENTRY_LENGTH,
  type BatEntry,
  BITMAP_STATE,
  BLOCK_STATE,
  decodeEntry,
  neededEntries,
  SECTOR_BITMAP_MIB,
} from './bat.js';
import { readExact, viewOf } from './binary.js';
import { type VhdxDefect, vhdxFinding } from './defects.js';
import { HEADER_SECTION_END, MAX_FILE_OFFSET } from './layout.js';
import { occupiedRanges, type VhdxStructures } from './open.js';
import type { OwnedRanges } from './region-table.js';
import { SpaceMap } from './space-map.js';

/** Findings of one kind that are listed one by one. */
const LISTED = 32;
const CHUNK = MiB;

/**
 * All findings about an image whose structures were read.
 * @throws IO_FAILED, IMAGE_CORRUPT (VHDX_TRUNCATED) when the file shrinks meanwhile
 */
export async function checkImage(structures: VhdxStructures, options: CheckOptions = {}): Promise<Finding[]> {
  const { findings } = await examineBlocks(structures, options);
  return [...structures.warnings, ...findings];
}

/** What one pass over the BAT found: defects, and the space that something uses or reserves. */
export interface BlockExamination {
  findings: Finding[];
  space: SpaceMap;
}

/** @throws as checkImage */
export async function examineBlocks(
  structures: VhdxStructures,
  options: CheckOptions = {},
): Promise<BlockExamination> {
  const findings = new FindingList();
  const scan = new BatScan(structures, findings);
  await scan.run(options);
  return { findings: findings.all(), space: scan.space };
}

/** Findings, with those of one kind beyond a limit only counted. */
class FindingList {
  readonly #byCode = new Map<VhdxDefect, { listed: Finding[]; more: number }>();

  add(code: VhdxDefect, severity: Severity, message: string, offset: number): void {
    const kind = this.#byCode.get(code) ?? { listed: [], more: 0 };
    this.#byCode.set(code, kind);
    if (kind.listed.length < LISTED) kind.listed.push(vhdxFinding(code, severity, message, offset));
    else kind.more += 1;
  }

  all(): Finding[] {
    return [...this.#byCode].flatMap(([, { listed, more }]) => {
      const last = listed.at(-1);
      if (!last || more === 0) return listed;
      return [...listed, { ...last, message: `${more} more of this kind` }];
    });
  }
}

class BatScan {
  readonly #structures: VhdxStructures;
  readonly #findings: FindingList;
  readonly space = new SpaceMap();
  readonly #view: RandomAccessFile;
  readonly #viewSize: number;
  readonly #occupied: OwnedRanges;
  /** First partially present block of the current chunk whose bitmap entry is still to come. */
  #partialEntry: number | undefined;
  #unallocated = 0;
  /** Where the first block lies, in MiB: space before it is layout, not loss. */
  #firstBlockMiB: number | undefined;

  constructor(structures: VhdxStructures, findings: FindingList) {
    this.#structures = structures;
    this.#findings = findings;
    this.#occupied = occupiedRanges(structures);
    this.#view = structures.overlay ?? structures.file;
    this.#viewSize = this.#view.size();
  }

  async run({ signal, onProgress }: CheckOptions): Promise<void> {
    this.space.take(0, HEADER_SECTION_END / MiB);
    for (const range of this.#occupied) {
      this.space.take(range.offset / MiB, range.length / MiB);
    }
    const { bat } = this.#structures.regions;
    for (let at = 0; at < bat.length; at += CHUNK) {
      throwIfAborted(signal, 'check');
      onProgress?.(at, bat.length);
      const bytes = await readExact(this.#view, bat.offset + at, CHUNK, 'the block allocation table');
      this.#scanChunk(bytes, at / BAT_ENTRY_LENGTH, bat.offset + at);
    }
    this.#finishChunk();
    this.#summarize();
  }

  #scanChunk(bytes: Uint8Array, firstIndex: number, fileOffset: number): void {
    const { geometry, metadata } = this.#structures;
    const stride = geometry.chunkRatio + 1;
    const needed = neededEntries(geometry, metadata.hasParent);
    const view = viewOf(bytes);
    // Most of a table is not in use, and zero: one look at all of it is cheaper than one at each entry.
    const used = Math.min(bytes.length, Math.max(0, needed - firstIndex) * BAT_ENTRY_LENGTH);
    const end = isZero(bytes.subarray(used)) ? used : bytes.length;
    for (let at = 0; at < end; at += BAT_ENTRY_LENGTH) {
      const low = view.getUint32(at, true);
      const high = view.getUint32(at + 4, true);
      const index = firstIndex + at / BAT_ENTRY_LENGTH;
      const inChunk = index % stride;
      const block = Math.floor(index / stride) * geometry.chunkRatio + inChunk;
      const isPayload = inChunk < geometry.chunkRatio && block < geometry.blocks;
      if (low === 0 && high === 0 && (isPayload || index >= needed)) {
        if (isPayload) this.#unallocated += 1;
        continue;
      }
      const entry = decodeEntry(low, high);
      if (isPayload) this.#payload(entry, block, fileOffset + at);
      else if (inChunk === geometry.chunkRatio && index < needed) this.#bitmap(entry, fileOffset + at);
      else if (low !== 0 || high !== 0) this.#spare(index < needed, fileOffset + at);
    }
  }

  #spare(isNeeded: boolean, at: number): void {
    const where = isNeeded ? 'behind the last block' : 'behind the part of the table in use';
    this.#findings.add('VHDX_BAT_SPARE_ENTRY_USED', 'note', `an entry ${where} is not zero`, at);
  }

  #payload(entry: BatEntry, block: number, at: number): void {
    const { hasParent } = this.#structures.metadata;
    this.#reserved(entry, at);
    switch (entry.state) {
      case BLOCK_STATE.fullyPresent:
        this.#place(entry, `block ${block}`, this.#structures.geometry.blockSize / MiB, at, true);
        return;
      case BLOCK_STATE.partiallyPresent:
        if (!hasParent) {
          const message = `block ${block} is partially present, but there is no parent`;
          this.#findings.add('VHDX_BAT_STATE_INVALID', 'error', message, at);
        }
        this.#place(entry, `block ${block}`, this.#structures.geometry.blockSize / MiB, at, true);
        this.#partialEntry ??= at;
        return;
      case 4:
        this.#findings.add('VHDX_BAT_STATE_INVALID', 'error', `block ${block} is in state 4`, at);
        return;
      case BLOCK_STATE.legacyUnmapped:
        this.#findings.add('VHDX_BAT_STATE_LEGACY', 'warning', `block ${block} is in state 5`, at);
        break;
      case BLOCK_STATE.notPresent:
      case BLOCK_STATE.zero:
        if (entry.offsetMiB !== 0) {
          const message = `block ${block} has no payload (state ${entry.state}) but a file offset`;
          this.#findings.add('VHDX_BAT_OFFSET_UNEXPECTED', 'warning', message, at);
        }
        this.#unallocated += 1;
        return;
      default:
        break;
    }
    // Undefined and unmapped blocks may keep their old place, which stays reserved for them.
    this.#unallocated += 1;
    if (entry.offsetMiB !== 0)
      this.#place(entry, `block ${block}`, this.#structures.geometry.blockSize / MiB, at, false);
  }

  #bitmap(entry: BatEntry, at: number): void {
    const { hasParent } = this.#structures.metadata;
    const isEmpty = entry.state === 0 && entry.offsetMiB === 0 && !entry.reservedBits;
    if (!hasParent) {
      const message = 'a sector bitmap entry is not zero, but there is no parent';
      if (!isEmpty) this.#findings.add('VHDX_BITMAP_UNEXPECTED', 'warning', message, at);
      this.#partialEntry = undefined;
      return;
    }
    this.#reserved(entry, at);
    if (entry.state === BITMAP_STATE.present) {
      this.#place(entry, 'a sector bitmap', SECTOR_BITMAP_MIB, at, true);
      this.#partialEntry = undefined;
      return;
    }
    if (entry.state !== BITMAP_STATE.notPresent) {
      const message = `a sector bitmap is in state ${entry.state}`;
      this.#findings.add('VHDX_BAT_STATE_INVALID', 'error', message, at);
    } else if (entry.offsetMiB !== 0) {
      const message = 'a sector bitmap that is not there has a file offset';
      this.#findings.add('VHDX_BAT_OFFSET_UNEXPECTED', 'warning', message, at);
    }
    this.#finishChunk();
  }

  /** Called where a chunk's bitmap is known to be missing. */
  #finishChunk(): void {
    const at = this.#partialEntry;
    this.#partialEntry = undefined;
    if (at === undefined || !this.#structures.metadata.hasParent) return;
    const message = 'a partially present block has no sector bitmap';
    this.#findings.add('VHDX_BITMAP_MISSING', 'error', message, at);
  }

  #reserved(entry: BatEntry, at: number): void {
    if (!entry.reservedBits) return;
    this.#findings.add('VHDX_BAT_RESERVED_BITS', 'warning', 'reserved bits of an entry are set', at);
  }

  /** Checks a place and takes its space. `inUse`: contents are read from there. */
  #place(entry: BatEntry, what: string, lengthMiB: number, at: number, inUse: boolean): void {
    const severity = inUse ? 'error' : 'warning';
    const start = entry.offsetMiB * MiB;
    const end = start + lengthMiB * MiB;
    if (start < HEADER_SECTION_END || start >= Math.min(this.#viewSize, MAX_FILE_OFFSET)) {
      const message = `${what} is said to be at ${start}, outside the file of ${this.#viewSize} bytes`;
      this.#findings.add('VHDX_BAT_ENTRY_OUTSIDE_FILE', severity, message, at);
      return;
    }
    this.#firstBlockMiB = Math.min(this.#firstBlockMiB ?? entry.offsetMiB, entry.offsetMiB);
    if (end > this.#viewSize) this.#cutShort(what, start, end, at, inUse);
    const owner = this.#occupied.find(start, end);
    if (owner) {
      const message = `${what} is said to be at ${start}, inside ${owner.name}`;
      this.#findings.add('VHDX_BAT_ENTRY_IN_METADATA', severity, message, at);
    } else if (this.space.take(entry.offsetMiB, lengthMiB)) {
      const message = `${what} (at ${start}) shares space with another block`;
      this.#findings.add('VHDX_BAT_ENTRY_OVERLAP', severity, message, at);
    }
  }

  #cutShort(what: string, start: number, end: number, at: number, inUse: boolean): void {
    const missing = formatSize(end - this.#viewSize);
    if (what === 'a sector bitmap') {
      const message = `${what} (at ${start}) reaches ${missing} past the end of the file`;
      this.#findings.add('VHDX_BAT_ENTRY_OUTSIDE_FILE', 'error', message, at);
    } else if (inUse) {
      const message = `the last ${missing} of ${what} (at ${start}) are missing from the file and read as zeros`;
      this.#findings.add('VHDX_BLOCK_CUT_SHORT', 'warning', message, at);
    }
  }

  #summarize(): void {
    const { type, regions, geometry } = this.#structures;
    if (type === 'fixed' && this.#unallocated > 0) {
      const message = `${this.#unallocated} of ${geometry.blocks} blocks of a fixed image are not allocated`;
      this.#findings.add('VHDX_FIXED_NOT_ALLOCATED', 'note', message, regions.bat.offset);
    }
    if (this.#viewSize > MAX_FILE_OFFSET) {
      const message = 'the file is longer than 256 TiB; nothing beyond that is examined';
      this.#findings.add('VHDX_FILE_TOO_LONG', 'warning', message, MAX_FILE_OFFSET);
      return;
    }
    const unused = this.#unusedMiB();
    if (unused <= 0) return;
    // A fixed image keeps its space on purpose.
    const severity = type === 'fixed' ? 'note' : 'leak';
    const message = `${formatSize(unused * MiB)} of the file are not used by anything`;
    this.#findings.add('VHDX_UNUSED_SPACE', severity, message, HEADER_SECTION_END);
  }

  /** MiB that nothing uses between the first block (without blocks: the last structure) and the file's end. */
  #unusedMiB(): number {
    const ranges = [...this.#occupied];
    const structuresEnd = Math.max(...ranges.map((range) => range.offset + range.length)) / MiB;
    const start = this.#firstBlockMiB ?? structuresEnd;
    const before = ranges.map((range) =>
      Math.min(range.length / MiB, Math.max(0, start - range.offset / MiB)),
    );
    const takenBefore = before.reduce((sum, length) => sum + length, HEADER_SECTION_END / MiB);
    return Math.floor(this.#viewSize / MiB) - start - (this.space.taken - takenBefore);
  }
}

/**
 * Repairs the structures of a VHDX.
 *
 * Invariants: a log that holds changes is replayed first; one valid header and one valid region table are there
 * at every instant; table entries and metadata change through the log, all of an entry or nothing. The contents
 * do not change, so the id by which children know the image stays.
 */
import { MiB } from '../../base/bytes.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { Finding } from '../finding.js';
import type { RepairAccess, StructureRepair } from '../repair.js';
import { SpaceAllocator } from './allocator.js';
import { viewOf } from './binary.js';
import { examineBlocks } from './check.js';
import type { VhdxDefect } from './defects.js';
import { DirtyPages } from './dirty-pages.js';
import { EditSession } from './edit-session.js';
import { HeaderWriter } from './header-writer.js';
import {
  MAX_FILE_OFFSET,
  METADATA_TABLE_LENGTH,
  REGION_TABLE_LENGTH,
  REGION_TABLE_OFFSETS,
} from './layout.js';
import { MAX_UPDATES } from './log-writer.js';
import { occupiedRanges, readStructures, type VhdxStructures } from './open.js';
import { PageCache } from './page-cache.js';
import { decodeRegionTable } from './region-table.js';
import type { EntryRules } from './repair-entries.js';
import { type EntryChange, TableDoctor } from './repair-table.js';

/** What mending the headers (or emptying the log) does away with. */
const HEADER_DEFECTS: ReadonlySet<string> = new Set<VhdxDefect>([
  'VHDX_HEADER_COPY_DAMAGED',
  'VHDX_HEADERS_TWINS',
  'VHDX_LOG_PLACEMENT_INVALID',
  'VHDX_LOG_DIRTY',
]);
const REGION_DEFECTS: ReadonlySet<string> = new Set<VhdxDefect>([
  'VHDX_REGION_TABLE_COPY_DAMAGED',
  'VHDX_REGION_TABLES_DIFFER',
]);

/** @throws IMAGE_CORRUPT, UNSUPPORTED (what leaves nothing to go on with), READ_ONLY, NO_SPACE, IO_FAILED */
export async function repairVhdx(file: RandomAccessFile, access: RepairAccess): Promise<StructureRepair> {
  const structures = await readStructures(file);
  const reason = refusal(structures);
  if (reason) return { dropped: [], droppedCount: 0, refused: reason };
  const view = structures.overlay ?? file;
  const pages = new PageCache(view, 'the block allocation table');
  const changes = { count: 0 };
  const found = await doctor(structures, pages, access).examine(async () => {
    changes.count += 1;
  });
  const result = { dropped: found.drops.listed(), droppedCount: found.drops.count };
  const isCut = found.end > view.size();
  const { warnings } = structures;
  const flags = warnings.filter(({ code }) => code === 'VHDX_METADATA_RESERVED_BITS');
  const isHeader = warnings.some(({ code }) => HEADER_DEFECTS.has(code));
  const isRegion = warnings.some(({ code }) => REGION_DEFECTS.has(code));
  const isNeeded = changes.count > 0 || isCut || flags.length > 0 || isHeader || isRegion;
  if (access.dryRun || !isNeeded) return result;
  const treatment = await Treatment.of(structures, access);
  await treatment.begin();
  if (isRegion) await treatment.restoreRegionTables();
  if (isCut) await treatment.extend(found.end);
  await treatment.apply(flags, access);
  await treatment.close();
  return result;
}

function refusal({ file, header, headerOffset, overlay }: VhdxStructures): string | undefined {
  if ((overlay ?? file).size() > MAX_FILE_OFFSET) return 'the file is longer than can be examined';
  if (new HeaderWriter(file, header, headerOffset).canUpdate) return undefined;
  return 'the header sequence number cannot grow any more';
}

function rulesOf(structures: VhdxStructures): EntryRules {
  const { overlay, file, geometry, metadata } = structures;
  return {
    geometry,
    hasParent: metadata.hasParent,
    occupied: occupiedRanges(structures),
    fileSize: (overlay ?? file).size(),
  };
}

function doctor(
  structures: VhdxStructures,
  pages: PageCache | DirtyPages,
  access: RepairAccess,
): TableDoctor {
  return new TableDoctor(pages, structures.regions.bat, rulesOf(structures), access.signal);
}

/** The image while it is changed. */
class Treatment {
  readonly #structures: VhdxStructures;
  readonly #session: EditSession;
  readonly #pages: DirtyPages;

  private constructor(structures: VhdxStructures, access: RepairAccess, space: SpaceAllocator) {
    const { file, overlay } = structures;
    this.#structures = structures;
    this.#pages = new DirtyPages(overlay ?? file, MAX_UPDATES, () => this.#write());
    const onReplayed = (): void => this.#pages.readFrom(file);
    this.#session = new EditSession(structures, access, space, onReplayed);
  }

  static async of(found: VhdxStructures, access: RepairAccess): Promise<Treatment> {
    const { file, overlay, log } = found;
    const size = (overlay ?? file).size();
    const isLogThere = log && log.offset + log.length <= file.size();
    const structures = { ...found, log: isLogThere ? log : undefined };
    const { space } = await examineBlocks(structures);
    // The file keeps its length: what can be cut off is found when space is given back.
    const last = Math.ceil(size / MiB) - 1;
    if (space.findFree(last, last + 1, 1) === last) space.take(last, 1);
    return new Treatment(
      structures,
      access,
      new SpaceAllocator(file, space, size + found.geometry.blockSize),
    );
  }

  /** Replays the log, mends both headers, makes a log where there is none. */
  async begin(): Promise<void> {
    await this.#session.begin('invisible');
  }

  /** Both copies as the one in use. One of them is valid all the time. */
  async restoreRegionTables(): Promise<void> {
    const { file } = this.#structures;
    const copies: Uint8Array[] = [];
    for (const offset of REGION_TABLE_OFFSETS) {
      const bytes = new Uint8Array(REGION_TABLE_LENGTH);
      await file.read(bytes, offset);
      copies.push(bytes);
    }
    const right = copies.find((bytes) => decodeRegionTable(bytes) !== undefined);
    for (const [index, offset] of REGION_TABLE_OFFSETS.entries()) {
      const stored = copies[index];
      if (!right || !stored || Buffer.compare(stored, right) === 0) continue;
      await file.write(right, offset);
      await file.flush();
    }
  }

  /** Cut off parts of blocks read as zeros; now they are there. */
  async extend(end: number): Promise<void> {
    const { file } = this.#structures;
    if (end > file.size()) await file.truncate(end);
    await file.flush();
  }

  async apply(flags: readonly Finding[], access: RepairAccess): Promise<void> {
    const { regions, file } = this.#structures;
    const itemsAt = regions.metadata.offset + METADATA_TABLE_LENGTH;
    for (const { offset } of flags) {
      if (offset === undefined) continue;
      // Two flags of the file parameters, three of a table entry are defined (MS-VHDX 2.6.2.1, 2.6.1.2).
      await this.#change(offset, (view) =>
        view.setUint32(0, view.getUint32(0, true) & (offset < itemsAt ? 7 : 3), true),
      );
    }
    await this.#write();
    const structures = { ...this.#structures, overlay: undefined, file };
    await doctor(structures, this.#pages, access).examine((change) => this.#put(change));
    await this.#write();
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  #put({ offset, bytes }: EntryChange): Promise<void> {
    return this.#change(
      offset,
      (view) => {
        new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(bytes);
      },
      bytes.length,
    );
  }

  async #change(offset: number, update: (view: DataView) => void, length = 4): Promise<void> {
    await this.#pages.reserve(1);
    await this.#pages.change(offset, length, (bytes) => update(viewOf(bytes)));
  }

  async #write(): Promise<void> {
    if (this.#pages.changedSectors === 0) return;
    await this.#session.write(this.#pages.updates());
    this.#pages.settle();
  }
}

/**
 * Repairs the structures of a VHD.
 *
 * Invariants: steps go from what leads to the rest downwards: footers, header, table, bitmaps; each is durable
 * before the next begins, and none is begun while one above it is in doubt. A step finds its own work done when
 * the repair is run again.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { RepairAccess, StructureRepair } from '../repair.js';
import { BlockAllocationTable } from './bat.js';
import { blockRules } from './check.js';
import { bitmapsMatter } from './check-bitmaps.js';
import { sealChecksum } from './checksum.js';
import { HEADER_BYTES, headerChecksumOk } from './dynamic-header.js';
import { FOOTER_BYTES, FOOTER_FIELD } from './footer.js';
import { creatorOf, writeWindowsCreator } from './footer-size.js';
import { settleBitmaps } from './repair-bitmaps.js';
import {
  footerDoubt,
  footerPlace,
  mendHeader,
  putFixedFooter,
  putFooters,
  rightFooter,
} from './repair-footers.js';
import { diagnoseTable, dropEntries, repairOf, type TableDiagnosis } from './repair-table.js';
import { judgeFixed, readFooter, readSparse, type SparseStructures } from './structures.js';

const TAPDISK = 'tap\0';

function refused(reason: string): StructureRepair {
  return { dropped: [], droppedCount: 0, refused: reason };
}

/** @throws IMAGE_CORRUPT, UNSUPPORTED (what leaves nothing to go on with), READ_ONLY, NO_SPACE, IO_FAILED */
export async function repairVhd(file: RandomAccessFile, access: RepairAccess): Promise<StructureRepair> {
  const structures = await readFooter(file, {});
  if (structures.type === 'fixed') {
    judgeFixed(structures);
    const footer = await rightFooter(structures, access);
    if (!access.dryRun) await putFixedFooter(structures, footer);
    return { dropped: [], droppedCount: 0 };
  }
  const doubt = await footerDoubt(structures);
  if (doubt) return refused(doubt);
  return repairSparse(await readSparse(structures), access);
}

async function repairSparse(structures: SparseStructures, access: RepairAccess): Promise<StructureRepair> {
  const { file, table, headerOffset } = structures;
  const bat = new BlockAllocationTable(file, table);
  const rules = await blockRules(structures);
  const diagnosis = await diagnoseTable(structures, bat, rules);
  const header = new Uint8Array(HEADER_BYTES);
  await file.read(header, headerOffset);
  if (!headerChecksumOk(header) && diagnosis.drops.count > 0)
    return refused(
      'the checksum of the dynamic header is wrong and the table it leads to has impossible entries: the header itself may lie',
    );
  if (access.dryRun) return repairOf(diagnosis.drops);
  const end = Math.max(diagnosis.end, ...rules.metadata.map((range) => range.end));
  const footer = await rightFooter(structures, access);
  if (diagnosis.drops.count > 0) leaveBatmap(footer);
  await putFooters(structures, footer, placeOfFooter(structures, diagnosis, end));
  await mendHeader(structures, headerOffset);
  await dropEntries(structures, diagnosis.drops);
  await file.flush();
  await finishBitmaps(file, access);
  return repairOf(diagnosis.drops);
}

/** The end of the file is left alone unless it is missing or cuts something off. */
function placeOfFooter(structures: SparseStructures, diagnosis: TableDiagnosis, end: number): number {
  if (structures.copy.where === 'end511' && !diagnosis.isCut) return structures.limit;
  if (structures.copy.where !== 'start' && !diagnosis.isCut) return structures.limit;
  return footerPlace(structures, end);
}

/** blktap believes its batmap, which still knows the dropped blocks; other creators' images have none. */
function leaveBatmap(footer: Uint8Array): void {
  if (creatorOf(footer) !== TAPDISK) return;
  writeWindowsCreator(new DataView(footer.buffer, footer.byteOffset, FOOTER_BYTES), footer);
  sealChecksum(footer, FOOTER_FIELD.checksum);
}

/** With the table as it is now: the blocks that are left share nothing. */
async function finishBitmaps(file: RandomAccessFile, access: RepairAccess): Promise<void> {
  const structures = await readSparse(await readFooter(file, {}));
  if (!bitmapsMatter(structures)) return;
  const bat = new BlockAllocationTable(file, structures.table);
  await settleBitmaps(structures, bat, access.signal);
}

/**
 * Sector sizes in a conversion: for which one the disk was made, which one the target has, and what to do
 * when the two differ.
 *
 * Invariant: a disk whose partition table counts in other sectors than the target has is refused unless
 * rewriting the table was asked for; it is never rewritten without that. Only the table is ever changed:
 * what file systems record of sectors is told, not touched.
 */
import { roundUp } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { Locator } from '../../block/extent.js';
import type { Chain } from '../../formats/chain.js';
import type { FormatId, SectorSize } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import { readDisk } from '../../formats/image-reader.js';
import { assumedSectorSize, HEAD_BYTES } from '../../guestfs/assumed-sector-size.js';
import { hasBootCode } from '../../guestfs/mbr.js';
import {
  findPartitionTable,
  type GptTable,
  type MbrTable,
  type PartitionTable,
  type ReadBytes,
} from '../../guestfs/partition-table.js';
import type { Resectored, SectorChange, Span } from '../../guestfs/resector.js';
import { resectorGpt } from '../../guestfs/resector-gpt.js';
import { resectorMbr } from '../../guestfs/resector-mbr.js';
import { PatchedChain } from './reblock.js';
import type { ConvertOptions, Reblocked } from './types.js';

/** How the source is to be read, and what the target has to be like for it. */
export interface SectorPlan {
  /** The disk to convert: the source itself, or the source with another partition table. */
  chain: Chain;
  /** Logical sector size of the target; undefined where nobody says (a raw target). */
  sectorSize: SectorSize | undefined;
  virtualSize: number;
  warnings: Finding[];
  reblocked?: Reblocked;
}

function invalid(message: string, hint: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', message, { operation: 'choose sector size', hint });
}

function warning(code: string, message: string): Finding {
  return { code, severity: 'warning', message, repairable: false };
}

function readerOf(disk: Locator): ReadBytes {
  return async (offset, length) => {
    const bytes = new Uint8Array(length);
    await readDisk(disk, bytes, offset);
    return bytes;
  };
}

function assertOptions(source: FormatId, to: FormatId, options: ConvertOptions): void {
  if (to === 'vhd' && options.sectorSize === 4096) {
    throw invalid('A VHD always has sectors of 512 bytes', 'Leave --sector-size away, or choose -O vhdx.');
  }
  if (source !== 'raw' && options.sourceSectorSize !== undefined) {
    throw invalid(
      `A ${source.toUpperCase()} says itself which sectors it has`,
      'Leave --source-sector-size away; it is for raw sources.',
    );
  }
  if (to === 'raw' && options.reblock && options.sectorSize === undefined) {
    throw invalid(
      'For which sectors should the partition table be rewritten? A raw image does not say',
      'Add --sector-size 512 or --sector-size 4096.',
    );
  }
}

/** "a GPT for 4096-byte sectors" */
function describe(table: PartitionTable, made: SectorSize): string {
  if (table.kind === 'damaged') return `a damaged GPT (it ${table.defect}) for ${made}-byte sectors`;
  return `${table.kind === 'mbr' ? 'an MBR' : 'a GPT'} for ${made}-byte sectors`;
}

function targetSectorSize(
  to: FormatId,
  declared: SectorSize,
  table: PartitionTable | undefined,
  options: ConvertOptions,
  isRaw: boolean,
): SectorSize | undefined {
  if (to === 'vhd') return 512;
  if (options.sectorSize !== undefined) return options.sectorSize;
  if (to === 'raw') return undefined;
  return isRaw && (table?.kind === 'gpt' || table?.kind === 'damaged') ? table.sectorSize : declared;
}

/**
 * Decides about sectors before anything is written.
 * @param finalSize what becomes of the size besides: the copy of a rewritten GPT belongs at the very end
 * @throws INVALID_ARGUMENT for options that contradict each other, UNSUPPORTED for a disk that would be
 *   misread on the target, and what reading the source throws
 */
export async function planSectors(
  chain: Chain,
  to: FormatId,
  options: ConvertOptions,
  finalSize: (size: number) => number = (size) => size,
): Promise<SectorPlan> {
  const { top, virtualSize } = chain;
  const isRaw = top.format === 'raw';
  assertOptions(top.format, to, options);
  const declared = options.sourceSectorSize ?? top.logicalSectorSize;
  const known = isRaw ? options.sourceSectorSize : declared;
  const sizes = options.sourceSectorSize === undefined ? undefined : [options.sourceSectorSize];
  const read = readerOf(chain);
  const table = await findPartitionTable(read, virtualSize, known, sizes);
  const sectorSize = targetSectorSize(to, declared, table, options, isRaw);
  const made = table?.kind === 'gpt' || table?.kind === 'damaged' ? table.sectorSize : declared;
  const size = finalSize(sectorSize === undefined ? virtualSize : roundUp(virtualSize, sectorSize));
  const plan: SectorPlan = { chain, sectorSize, virtualSize: size, warnings: [] };
  if (sectorSize === undefined) {
    if (table && !isRaw && made === 4096) plan.warnings.push(unmarked(describe(table, made)));
    return plan;
  }
  if (table?.kind === 'ambiguous') throw ambiguous(top.file.path);
  if (made === sectorSize) return plan;
  const change: SectorChange = { from: made, to: sectorSize, size };
  if (!table) {
    const whole = { label: 'the disk', offset: 0, length: virtualSize };
    plan.warnings.push(...(await fileSystemWarnings(read, [whole], change, virtualSize)));
  } else if (options.reblock) {
    await rewrite(plan, chain, table, change);
  } else if (!isRaw && declared === sectorSize) {
    const text = `The disk has ${describe(table, made)}, but the image says ${declared}; the target does too`;
    plan.warnings.push(warning('SECTORS_TABLE_MISMATCH', text));
  } else {
    throw refusal(top.file.path, describe(table, made), made, sectorSize, to);
  }
  return plan;
}

function unmarked(table: string): Finding {
  return warning(
    'SECTORS_NOT_RECORDED',
    `The disk has ${table}, which a raw image does not record: attach it with 4096-byte sectors, or use --reblock --sector-size 512`,
  );
}

function ambiguous(path: string): VhdkitError {
  return new VhdkitError(
    'UNSUPPORTED',
    `${path} has a GPT for 512-byte sectors and another one for 4096-byte sectors`,
    {
      operation: 'choose sector size',
      context: { path },
      hint: 'One of them is a leftover: say with --source-sector-size which one counts.',
    },
  );
}

function refusal(
  path: string,
  table: string,
  made: SectorSize,
  wanted: SectorSize,
  to: FormatId,
): VhdkitError {
  const keep = to === 'vhd' ? '-O vhdx keeps them' : `--sector-size ${made} keeps them`;
  return new VhdkitError(
    'UNSUPPORTED',
    `${path} has ${table}; with the target's sectors of ${wanted} bytes its partitions would not be found`,
    {
      operation: 'choose sector size',
      context: { path, sectorSize: made, wanted },
      hint: `Use --reblock to rewrite the partition table; ${keep}.`,
    },
  );
}

async function rewrite(
  plan: SectorPlan,
  chain: Chain,
  table: PartitionTable,
  change: SectorChange,
): Promise<void> {
  const { path } = chain.top.file;
  if (table.kind === 'damaged' || table.kind === 'ambiguous') {
    const defect = table.kind === 'damaged' ? table.defect : 'there are two';
    throw new VhdkitError('UNSUPPORTED', `${path}: the GPT is damaged and can't be rewritten: it ${defect}`, {
      operation: 'rewrite partition table',
      context: { path, sectorSize: change.from },
      hint: 'Repair it first (gdisk), or keep the sector size.',
    });
  }
  const read = readerOf(chain);
  const size = chain.virtualSize;
  const done: Resectored =
    table.kind === 'gpt' ? resectorGpt(table, change) : await resectorMbr(table, change, read, size);
  plan.chain = await PatchedChain.create(chain, plan.virtualSize, done.edits);
  plan.reblocked = {
    table: table.kind === 'gpt' ? 'GPT' : 'MBR',
    from: change.from,
    to: change.to,
    partitions: done.partitions.length,
  };
  plan.warnings.push(
    ...tableWarnings(table),
    ...(await fileSystemWarnings(read, done.partitions, change, size)),
  );
}

function tableWarnings(table: GptTable | MbrTable): Finding[] {
  const warnings: Finding[] = [];
  if (table.kind === 'gpt') {
    for (const defect of table.defects) {
      warnings.push(warning('SECTORS_GPT_REPAIRED', `The GPT was not in order before: ${defect}`));
    }
  }
  if (hasBootCode(table.mbr)) {
    const text =
      'There is boot code for BIOS in the first sector, which may count in sectors of the old size';
    warnings.push(warning('SECTORS_BOOT_CODE', text));
  }
  return warnings;
}

/** File systems that may refuse to work with the new sector size. */
async function fileSystemWarnings(
  read: ReadBytes,
  spans: readonly Span[],
  { to }: SectorChange,
  size: number,
): Promise<Finding[]> {
  const warnings: Finding[] = [];
  for (const { label, offset, length } of spans) {
    if (length < HEAD_BYTES || offset + HEAD_BYTES > size) continue;
    const assumed = assumedSectorSize(await read(offset, HEAD_BYTES));
    if (!assumed || assumed.bytes === to || (assumed.bytes > to && assumed.worksOnSmaller)) continue;
    const name = label.charAt(0).toUpperCase() + label.slice(1);
    const text = `${name} holds ${assumed.fileSystem} made for units of ${assumed.bytes} bytes, which may not mount on a disk with sectors of ${to} bytes`;
    warnings.push({ ...warning('SECTORS_FILE_SYSTEM', text), offset });
  }
  return warnings;
}

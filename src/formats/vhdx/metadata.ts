/**
 * The metadata region (MS-VHDX 2.6): what kind of disk this is.
 *
 * Invariant: every item handed out lies inside the region, behind the table, without overlapping another;
 * sizes are in the ranges of the specification, so that block arithmetic on them cannot overflow.
 */
import { isPowerOfTwo, toSafeNumber } from '../../base/bytes.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { SectorSize } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { getGuid, getU64, readExact, viewOf } from './binary.js';
import { vhdxCorrupt, vhdxFinding } from './defects.js';
import {
  ITEM_GUID,
  MAX_BLOCK_SIZE,
  MAX_VIRTUAL_SIZE,
  METADATA_TABLE_LENGTH,
  MIN_BLOCK_SIZE,
} from './layout.js';
import { checkMetadataEntries, decodeMetadataTable, type MetadataEntry } from './metadata-table.js';
import type { OwnedRange } from './region-table.js';

export interface VhdxMetadata {
  blockSize: number;
  leaveBlocksAllocated: boolean;
  hasParent: boolean;
  virtualSize: number;
  /** Undefined when the item is missing (tolerated with a warning). */
  virtualDiskId: string | undefined;
  logicalSectorSize: SectorSize;
  physicalSectorSize: SectorSize;
  /** The raw parent locator item and its byte offset in the file, when there is one. */
  parentLocator: { bytes: Uint8Array; offset: number } | undefined;
  findings: Finding[];
}

/** An item's bytes and where they are in the file. */
interface Item {
  bytes: Uint8Array;
  offset: number;
}

class Items {
  readonly #file: RandomAccessFile;
  readonly #region: OwnedRange;
  readonly #entries: readonly MetadataEntry[];

  constructor(file: RandomAccessFile, region: OwnedRange, entries: readonly MetadataEntry[]) {
    this.#file = file;
    this.#region = region;
    this.#entries = entries;
  }

  /** The item's bytes; undefined when it is not there. `length` undefined: any (at most 1 MiB). */
  async find(guid: string, name: string, length?: number): Promise<Item | undefined> {
    const entry = this.#entries.find((candidate) => candidate.guid === guid && !candidate.isUser);
    if (!entry) return undefined;
    if (length !== undefined && entry.length !== length) {
      const message = `metadata item '${name}' has ${entry.length} bytes instead of ${length}`;
      throw vhdxCorrupt('VHDX_METADATA_ITEM_INVALID', message, this.#file.path, entry.fileOffset);
    }
    const offset = this.#region.offset + entry.offset;
    return { bytes: await readExact(this.#file, offset, entry.length, `metadata item '${name}'`), offset };
  }

  /** @throws IMAGE_CORRUPT (VHDX_METADATA_ITEM_MISSING) */
  async require(guid: string, name: string, length: number): Promise<Item> {
    const item = await this.find(guid, name, length);
    if (item) return item;
    const message = `metadata item '${name}' is missing`;
    throw vhdxCorrupt('VHDX_METADATA_ITEM_MISSING', message, this.#file.path, this.#region.offset);
  }
}

/**
 * Reads and checks all metadata.
 * @param file the image as seen after log replay
 * @throws IMAGE_CORRUPT, UNSUPPORTED (an unknown item that must be understood), IO_FAILED
 */
export async function readMetadata(file: RandomAccessFile, region: OwnedRange): Promise<VhdxMetadata> {
  const findings: Finding[] = [];
  const table = await readExact(file, region.offset, METADATA_TABLE_LENGTH, 'the metadata table');
  const entries = decodeMetadataTable(table, region, file.path);
  checkMetadataEntries(entries, region, file.path, findings);
  const items = new Items(file, region, entries);
  const parameters = await readFileParameters(items, file.path, findings);
  const logicalSectorSize = await readSectorSize(items, 'logicalSectorSize', file.path);
  const metadata: VhdxMetadata = {
    ...parameters,
    logicalSectorSize,
    physicalSectorSize: await readSectorSize(items, 'physicalSectorSize', file.path),
    virtualSize: await readVirtualSize(items, logicalSectorSize, file.path),
    virtualDiskId: await readDiskId(items, region, findings),
    parentLocator: await items.find(ITEM_GUID.parentLocator, 'parent locator'),
    findings,
  };
  checkParent(metadata, region, file.path);
  return metadata;
}

async function readFileParameters(
  items: Items,
  path: string,
  findings: Finding[],
): Promise<Pick<VhdxMetadata, 'blockSize' | 'leaveBlocksAllocated' | 'hasParent'>> {
  const { bytes, offset } = await items.require(ITEM_GUID.fileParameters, 'file parameters', 8);
  const view = viewOf(bytes);
  const blockSize = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  if (!isPowerOfTwo(blockSize) || blockSize < MIN_BLOCK_SIZE || blockSize > MAX_BLOCK_SIZE) {
    const message = `block size ${blockSize} is not a power of two between 1 and 256 MiB`;
    throw vhdxCorrupt('VHDX_BLOCK_SIZE_INVALID', message, path, offset);
  }
  if (flags >>> 2 !== 0) {
    const message = `reserved file parameter bits are set (0x${flags.toString(16)})`;
    findings.push(vhdxFinding('VHDX_METADATA_RESERVED_BITS', 'warning', message, offset + 4));
  }
  return { blockSize, leaveBlocksAllocated: (flags & 1) !== 0, hasParent: (flags & 2) !== 0 };
}

async function readSectorSize(
  items: Items,
  which: 'logicalSectorSize' | 'physicalSectorSize',
  path: string,
): Promise<SectorSize> {
  const name = which === 'logicalSectorSize' ? 'logical sector size' : 'physical sector size';
  const { bytes, offset } = await items.require(ITEM_GUID[which], name, 4);
  const value = viewOf(bytes).getUint32(0, true);
  if (value === 512 || value === 4096) return value;
  throw vhdxCorrupt('VHDX_SECTOR_SIZE_INVALID', `${name} ${value} is neither 512 nor 4096`, path, offset);
}

async function readVirtualSize(items: Items, sectorSize: SectorSize, path: string): Promise<number> {
  const { bytes, offset } = await items.require(ITEM_GUID.virtualDiskSize, 'virtual disk size', 8);
  const view = viewOf(bytes);
  const value = getU64(view, 0);
  if (value === undefined || value === 0 || value > MAX_VIRTUAL_SIZE || value % sectorSize !== 0) {
    const stored = toSafeNumber(view.getBigUint64(0, true)) ?? 'above 2^53';
    const message = `virtual size ${stored} is not a multiple of ${sectorSize} up to 64 TiB`;
    throw vhdxCorrupt('VHDX_DISK_SIZE_INVALID', message, path, offset);
  }
  return value;
}

async function readDiskId(
  items: Items,
  region: OwnedRange,
  findings: Finding[],
): Promise<string | undefined> {
  const item = await items.find(ITEM_GUID.virtualDiskId, 'virtual disk id', 16);
  if (item) return getGuid(item.bytes, 0);
  const message = 'the virtual disk has no id';
  findings.push(vhdxFinding('VHDX_DISK_ID_MISSING', 'warning', message, region.offset));
  return undefined;
}

function checkParent(metadata: VhdxMetadata, region: OwnedRange, path: string): void {
  const { hasParent, parentLocator } = metadata;
  if (hasParent && !parentLocator) {
    const message = "metadata item 'parent locator' is missing in a differencing image";
    throw vhdxCorrupt('VHDX_METADATA_ITEM_MISSING', message, path, region.offset);
  }
  if (!hasParent && parentLocator) {
    const message = 'a parent locator in an image that has no parent; it is ignored';
    metadata.findings.push(
      vhdxFinding('VHDX_PARENT_LOCATOR_UNEXPECTED', 'warning', message, parentLocator.offset),
    );
  }
}

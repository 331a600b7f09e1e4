/**
 * What a new VHDX looks like, and the structures that never change while it is being built.
 *
 * Layout: header section, log at 1 MiB, metadata at 2 MiB, BAT at 3 MiB, payload behind it, everything on
 * 1 MiB boundaries. Invariant: everything follows from the options alone but for the ids; the headers are
 * not written here.
 */
import { isPowerOfTwo, MiB, roundUp } from '../../base/bytes.js';
import { type ErrorCode, VhdkitError } from '../../base/errors.js';
import { guidToMixedEndian, NIL_GUID } from '../../base/guid.js';
import { type RandomSource, randomGuid } from '../../base/random.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CreateImageOptions, ImageType, SectorSize } from '../disk-image.js';
import { BAT_ENTRY_LENGTH, type BatGeometry, batGeometry, neededEntries } from './bat.js';
import { setU64, viewOf } from './binary.js';
import { encodeIdentifier, type VhdxHeader } from './header.js';
import {
  ITEM_GUID,
  MAX_BLOCK_SIZE,
  MAX_VIRTUAL_SIZE,
  MIN_BLOCK_SIZE,
  REGION_GUID,
  REGION_TABLE_OFFSETS,
} from './layout.js';
import { encodeMetadata, type NewItem } from './metadata-table.js';
import { encodeParentLocator, locatorPairs } from './parent-locator.js';
import { encodeRegionTable, type OwnedRange } from './region-table.js';

const CREATOR = 'vhdkit';
const LOG: OwnedRange = { name: 'the log', offset: MiB, length: MiB };
const METADATA: OwnedRange = { name: 'the metadata region', offset: 2 * MiB, length: MiB };
const BAT_OFFSET = 3 * MiB;
/** What Windows gives differencing images: small, because little of each block changes. */
const CHILD_BLOCK_SIZE = 2 * MiB;

/** What a new image is made of: all choices made, all numbers checked. */
export interface NewImagePlan {
  type: ImageType;
  geometry: BatGeometry;
  physicalSectorSize: SectorSize;
  logicalSectorSize: SectorSize;
  log: OwnedRange;
  metadata: OwnedRange;
  bat: OwnedRange;
  /** First byte behind the structures: the first block's place. */
  payloadOffset: number;
  virtualDiskId: string;
  creator: string;
  header: VhdxHeader;
  /** The parent locator item; exactly in differencing images. */
  locator: Uint8Array | undefined;
}

/** Everything but the headers, the blocks and what names them. */
export async function writeStructures(file: RandomAccessFile, plan: NewImagePlan): Promise<void> {
  await file.write(encodeIdentifier(plan.creator), 0);
  const table = encodeRegionTable([
    { guid: REGION_GUID.bat, offset: plan.bat.offset, length: plan.bat.length, required: true },
    {
      guid: REGION_GUID.metadata,
      offset: plan.metadata.offset,
      length: plan.metadata.length,
      required: true,
    },
  ]);
  for (const offset of REGION_TABLE_OFFSETS) await file.write(table, offset);
  await file.write(encodeMetadata(metadataItems(plan)), plan.metadata.offset);
}

/** Checks the options and makes all choices. */
export function planImage(options: CreateImageOptions, path: string): NewImagePlan {
  const { type, virtualSize, random } = options;
  const logicalSectorSize = options.logicalSectorSize ?? 512;
  const physicalSectorSize = options.physicalSectorSize ?? 4096;
  checkSectorSizes([logicalSectorSize, physicalSectorSize], path);
  checkVirtualSize(virtualSize, logicalSectorSize, path);
  const isChild = type === 'differencing';
  checkParent(options, path);
  const blockSize =
    options.blockSize ?? (isChild ? CHILD_BLOCK_SIZE : defaultBlockSize(virtualSize, logicalSectorSize));
  checkBlockSize(blockSize, path);
  const geometry = batGeometry(virtualSize, blockSize, logicalSectorSize);
  const bat = { name: 'the BAT region', offset: BAT_OFFSET, length: batLength(geometry) };
  return {
    type,
    geometry,
    logicalSectorSize,
    physicalSectorSize,
    log: LOG,
    metadata: METADATA,
    bat,
    payloadOffset: bat.offset + bat.length,
    // A child is the same disk as its parent (MS-VHDX 2.6.2.3).
    virtualDiskId: options.diskId ?? options.parent?.diskId ?? randomGuid(random),
    creator: CREATOR,
    header: newHeader(random),
    locator: options.parent && encodeParentLocator(locatorPairs(options.parent)),
  };
}

/** Bytes of a BAT region: room for the larger of the two forms of the entry count. */
function batLength(geometry: BatGeometry): number {
  return roundUp(neededEntries(geometry, true) * BAT_ENTRY_LENGTH, MiB);
}

/**
 * The smallest of 2, 4, 8, 16, 32 MiB with which the BAT fits into 1 MiB (131 072 entries), so that
 * images stay compact without large tables: 2 MiB up to about 256 GiB, 32 MiB above 2 TiB.
 */
export function defaultBlockSize(virtualSize: number, logicalSectorSize: SectorSize): number {
  let blockSize = 2 * MiB;
  while (blockSize < 32 * MiB && batLength(batGeometry(virtualSize, blockSize, logicalSectorSize)) > MiB) {
    blockSize *= 2;
  }
  return blockSize;
}

function newHeader(random: RandomSource): VhdxHeader {
  return {
    sequence: 1n,
    fileWriteGuid: randomGuid(random),
    dataWriteGuid: randomGuid(random),
    logGuid: NIL_GUID,
    logVersion: 0,
    version: 1,
    logLength: LOG.length,
    logOffset: BigInt(LOG.offset),
  };
}

/** Bit 0: LeaveBlocksAllocated, bit 1: HasParent (MS-VHDX 2.6.2.1). */
const TYPE_FLAGS: Readonly<Record<ImageType, number>> = { dynamic: 0, fixed: 1, differencing: 2 };

function metadataItems(plan: NewImagePlan): NewItem[] {
  const { geometry } = plan;
  const parameters = new Uint8Array(8);
  viewOf(parameters).setUint32(0, geometry.blockSize, true);
  viewOf(parameters).setUint32(4, TYPE_FLAGS[plan.type], true);
  const size = new Uint8Array(8);
  setU64(viewOf(size), 0, geometry.virtualSize);
  const disk = { isVirtualDisk: true, isRequired: true };
  const file = { isVirtualDisk: false, isRequired: true };
  const items: NewItem[] = [
    { guid: ITEM_GUID.fileParameters, bytes: parameters, ...file },
    { guid: ITEM_GUID.virtualDiskSize, bytes: size, ...disk },
    { guid: ITEM_GUID.logicalSectorSize, bytes: u32(geometry.logicalSectorSize), ...disk },
    { guid: ITEM_GUID.physicalSectorSize, bytes: u32(plan.physicalSectorSize), ...disk },
    { guid: ITEM_GUID.virtualDiskId, bytes: guidToMixedEndian(plan.virtualDiskId), ...disk },
  ];
  if (plan.locator) items.push({ guid: ITEM_GUID.parentLocator, bytes: plan.locator, ...file });
  return items;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value, true);
  return bytes;
}

function refuse(code: ErrorCode, message: string, path: string, hint: string): VhdkitError {
  return new VhdkitError(code, message, { operation: 'create image', context: { path }, hint });
}

function checkParent({ type, parent }: CreateImageOptions, path: string): void {
  if ((type === 'differencing') === (parent !== undefined)) return;
  const message = parent
    ? `An image of type ${type} has no parent`
    : 'A differencing image needs a parent to differ from';
  throw refuse('INVALID_ARGUMENT', message, path, 'Name a parent exactly for a differencing image.');
}

function checkSectorSizes(sizes: readonly number[], path: string): void {
  if (sizes.every((size) => size === 512 || size === 4096)) return;
  const message = `A VHDX has sectors of 512 or 4096 bytes, not ${sizes.join(' and ')}`;
  throw refuse('INVALID_ARGUMENT', message, path, 'Choose 512 or 4096.');
}

function checkVirtualSize(size: number, sectorSize: number, path: string): void {
  if (!Number.isSafeInteger(size) || size <= 0 || size % sectorSize !== 0) {
    const message = `${size} bytes is not a whole number of sectors of ${sectorSize} bytes`;
    throw refuse('INVALID_ARGUMENT', message, path, `Choose a size that is a multiple of ${sectorSize}.`);
  }
  if (size > MAX_VIRTUAL_SIZE) {
    const message = `A VHDX can hold at most 64 TiB, not ${size} bytes`;
    throw refuse('TARGET_TOO_SMALL', message, path, 'Split the disk, or keep it raw.');
  }
}

function checkBlockSize(blockSize: number, path: string): void {
  if (isPowerOfTwo(blockSize) && blockSize >= MIN_BLOCK_SIZE && blockSize <= MAX_BLOCK_SIZE) return;
  const message = `Block size ${blockSize} is not a power of two between 1 MiB and 256 MiB`;
  throw refuse('INVALID_ARGUMENT', message, path, 'Choose 1M, 2M, 4M, … 256M.');
}

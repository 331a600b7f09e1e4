/**
 * Starts new VHDs: checks what is asked for and makes the footer.
 *
 * Invariant: the disk has exactly the size asked for, whatever the geometry says; ids are random and
 * never zero. The creator is written as Windows writes it, because several readers derive from it whether
 * they believe the size or the geometry.
 */
import { isPowerOfTwo, KiB, MiB } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import { guidToBytes } from '../../base/guid.js';
import { randomGuid } from '../../base/random.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CreateImageOptions, DiskImage } from '../disk-image.js';
import { newDifferencing, openNew } from './differencing-builder.js';
import { DynamicVhdBuilder } from './dynamic-builder.js';
import { MAX_BLOCK_SIZE, MAX_TABLE_ENTRIES, SECTOR_BYTES } from './dynamic-header.js';
import { FixedVhdBuilder } from './fixed-builder.js';
import {
  DISK_TYPE,
  HEADER_AFTER_FOOTER,
  MAX_DYNAMIC_SIZE,
  MAX_VIRTUAL_SIZE,
  NO_OFFSET,
  type VhdFooter,
} from './footer.js';
import { geometryOf } from './geometry.js';
import { succeed } from './successor.js';
import { vhdTimestamp } from './timestamp.js';

const DEFAULT_BLOCK_SIZE = 2 * MiB;
/**
 * The specification allows blocks from 512 bytes. Payload is placed at multiples of 4 KiB, so smaller
 * blocks would take 8 KiB of the file each, sixteen times what a block of 512 bytes holds.
 */
const MIN_BLOCK_SIZE = 4 * KiB;

const CREATOR_WINDOWS = 'win ';
const CREATOR_VERSION = 0x000a_0000;
const HOST_WINDOWS = 0x5769_326b;
const FORMAT_VERSION = 0x0001_0000;
/** The bit that is always set; 1 would mean "temporary disk". */
const FEATURES = 2;

function refuse(
  code: 'INVALID_ARGUMENT' | 'TARGET_TOO_SMALL' | 'UNSUPPORTED',
  file: RandomAccessFile,
  message: string,
  hint: string,
): never {
  throw new VhdkitError(code, message, { operation: 'create VHD', context: { path: file.path }, hint });
}

function judgeSize(file: RandomAccessFile, { type, virtualSize }: CreateImageOptions): void {
  if (!Number.isSafeInteger(virtualSize) || virtualSize <= 0 || virtualSize % SECTOR_BYTES !== 0) {
    const message = `A VHD can't have ${virtualSize} bytes: its size is a multiple of 512 above 0`;
    refuse(
      'INVALID_ARGUMENT',
      file,
      message,
      'Choose a multiple of 512; of 1M if the disk is to go to Azure.',
    );
  }
  const limit = type === 'fixed' ? MAX_VIRTUAL_SIZE : MAX_DYNAMIC_SIZE;
  if (virtualSize > limit) {
    const name = type === 'fixed' ? '64 TiB' : '2040 GiB';
    const message = `A ${type} VHD can't hold ${virtualSize} bytes: its limit is ${name}`;
    refuse('TARGET_TOO_SMALL', file, message, 'Use VHDX, which goes up to 64 TiB.');
  }
}

function judgeBlockSize(file: RandomAccessFile, options: CreateImageOptions): number {
  const blockSize = options.blockSize ?? DEFAULT_BLOCK_SIZE;
  if (!isPowerOfTwo(blockSize) || blockSize < MIN_BLOCK_SIZE || blockSize > MAX_BLOCK_SIZE) {
    const message = `A VHD block can't have ${blockSize} bytes: powers of two from 4 KiB to 256 MiB are possible`;
    refuse(
      'INVALID_ARGUMENT',
      file,
      message,
      blockSize < MIN_BLOCK_SIZE
        ? 'Smaller blocks would waste more space than they hold, because payload begins at multiples of 4 KiB.'
        : 'Leave the block size out: 2M is what every reader understands.',
    );
  }
  if (Math.ceil(options.virtualSize / blockSize) > MAX_TABLE_ENTRIES) {
    const message = `A disk of ${options.virtualSize} bytes has too many blocks of ${blockSize} bytes`;
    refuse('INVALID_ARGUMENT', file, message, 'Use larger blocks; 2M is the usual size.');
  }
  return blockSize;
}

function newFooter(options: CreateImageOptions): VhdFooter {
  const fixed = options.type === 'fixed';
  return {
    features: FEATURES,
    version: FORMAT_VERSION,
    dataOffset: fixed ? NO_OFFSET : BigInt(HEADER_AFTER_FOOTER),
    timestamp: vhdTimestamp(options.clock.now()),
    creatorApplication: CREATOR_WINDOWS,
    creatorVersion: CREATOR_VERSION,
    creatorHost: HOST_WINDOWS,
    originalSize: BigInt(options.virtualSize),
    currentSize: BigInt(options.virtualSize),
    geometry: geometryOf(options.virtualSize),
    diskType: DISK_TYPE[options.type],
    uniqueId: guidToBytes(options.diskId ?? randomGuid(options.random)),
    savedState: 0,
  };
}

/**
 * Lays out a new VHD in an empty file. VHD has no place for a physical sector size; that option is
 * ignored. `blockSize` is ignored for fixed disks.
 * @throws INVALID_ARGUMENT, TARGET_TOO_SMALL, UNSUPPORTED (4096-byte sectors, a device), IO_FAILED
 */
export async function createVhd(file: RandomAccessFile, options: CreateImageOptions): Promise<DiskImage> {
  if (options.logicalSectorSize === 4096) {
    refuse(
      'UNSUPPORTED',
      file,
      'A VHD always has sectors of 512 bytes',
      'Use VHDX for sectors of 4096 bytes.',
    );
  }
  if (file.kind === 'device') {
    refuse(
      'UNSUPPORTED',
      file,
      'A new VHD is written into a file, not onto a device',
      'Write raw onto the device.',
    );
  }
  if (file.size() !== 0) {
    refuse('INVALID_ARGUMENT', file, 'A new VHD is laid out in an empty file only', 'Choose another file.');
  }
  judgeSize(file, options);
  if (options.type === 'fixed') return newFixed(file, options);
  const blockSize = judgeBlockSize(file, options);
  const footer = await succeed(newFooter(options), options.replaces);
  if (options.type === 'differencing') return newDifferencing(file, footer, blockSize, options.parent);
  return new DynamicVhdBuilder(file, footer, blockSize);
}

async function newFixed(file: RandomAccessFile, options: CreateImageOptions): Promise<DiskImage> {
  await file.truncate(options.virtualSize);
  return new FixedVhdBuilder(file, await succeed(newFooter(options), options.replaces));
}

/** See FormatDriver.resume. Disks without a parent get a new id: nobody has seen the old one. */
export async function resumeVhd(file: RandomAccessFile, options: CreateImageOptions): Promise<DiskImage> {
  judgeSize(file, options);
  if (options.type === 'fixed') return newFixed(file, options);
  if (options.type === 'differencing') return openNew(file);
  const builder = new DynamicVhdBuilder(file, newFooter(options), judgeBlockSize(file, options));
  await builder.takeUp();
  return builder;
}

/**
 * Small VHDs for the tests of the format, and the means to damage them.
 *
 * The checksum here is written from the specification a second time, on purpose: a mistake in the codec's
 * own must not hide itself.
 */
import type { RandomSource } from '../../../../src/base/random.js';
import type { CreateImageOptions, DiskImage, OpenImageOptions } from '../../../../src/formats/disk-image.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { createVhd } from '../../../../src/formats/vhd/create.js';
import { openVhd } from '../../../../src/formats/vhd/open.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { differencingVhd } from '../../../support/vhd-differencing.js';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const BLOCK = 16 * KiB;
export const SMALL_SIZE = 4 * BLOCK;

/** Offsets of the small dynamic image (blocks 0 and 2 stored) and of its structures. */
export const AT = {
  header: 512,
  tableOffset: 528,
  headerVersion: 536,
  entries: 540,
  blockSize: 544,
  headerChecksum: 548,
  parentId: 552,
  locators: 512 + 576,
  bat: 1536,
  firstBitmap: 7680,
  firstData: 8192,
  secondBitmap: 28160,
  secondData: 28672,
  endFooter: 48640,
  length: 49152,
} as const;

/** Ids that are different each time but the same in every run. */
export function countingRandom(): RandomSource {
  let next = 1;
  return { bytes: (count) => Uint8Array.from({ length: count }, () => next++ & 0xff) };
}

export function createOptions(
  type: 'fixed' | 'dynamic',
  virtualSize: number,
  blockSize?: number,
): CreateImageOptions {
  const clock = { now: () => Date.UTC(2024, 0, 2, 3, 4, 5) };
  const base = { type, virtualSize, clock, random: countingRandom() };
  return blockSize === undefined ? base : { ...base, blockSize };
}

/** Writes through `prepareWrite`, as every operation does. */
export async function put(image: DiskImage, offset: number, bytes: Uint8Array): Promise<void> {
  const write = await image.prepareWrite(offset, bytes.length);
  for (const place of write.places) {
    const from = place.offset - offset;
    await place.file.write(bytes.subarray(from, from + place.length), place.fileOffset);
  }
  await write.commit();
}

/** The whole disk; read in pieces that start and end within blocks. */
export async function contentOf(image: DiskImage, step = 40 * KiB + 512): Promise<Buffer> {
  const out = Buffer.alloc(image.virtualSize, 0xee);
  for (let at = 0; at < out.length; at += step) {
    await readDisk(image, out.subarray(at, Math.min(at + step, out.length)), at);
  }
  return out;
}

export function patterned(length: number, salt: number): Buffer {
  return Buffer.from(
    Uint8Array.from({ length }, (_, index) => 1 + ((index * 7 + (index >> 9) + salt) % 255)),
  );
}

/** What the small images hold. */
export function smallContent(): Buffer {
  const content = Buffer.alloc(SMALL_SIZE);
  patterned(BLOCK, 3).copy(content, 0);
  patterned(BLOCK, 5).copy(content, 2 * BLOCK);
  return content;
}

/** 64 KiB in four blocks of 16 KiB, of which 0 and 2 are stored. See `AT`. */
export async function smallDynamic(): Promise<Buffer> {
  const file = new MemoryFile();
  const image = await createVhd(file, createOptions('dynamic', SMALL_SIZE, BLOCK));
  const content = smallContent();
  await put(image, 0, content.subarray(0, BLOCK));
  await put(image, 2 * BLOCK, content.subarray(2 * BLOCK, 3 * BLOCK));
  await image.flush();
  return Buffer.from(file.bytes());
}

export async function smallFixed(): Promise<Buffer> {
  const file = new MemoryFile();
  const image = await createVhd(file, createOptions('fixed', SMALL_SIZE));
  await put(image, 0, smallContent());
  await image.flush();
  return Buffer.from(file.bytes());
}

export const PARENT_ID = Buffer.from('aabbccddeeff00112233445566778899', 'hex');
export const CHILD_ID = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');

/**
 * A child of 64 KiB with 16 KiB blocks: locator data from 2048 (W2ru, then W2ku at 2560), BAT at 3072,
 * block 1 (bitmap at 3584) holding its sectors 0, 1 and 31.
 */
export function smallChild(): Buffer {
  return differencingVhd({
    size: SMALL_SIZE,
    uniqueId: CHILD_ID,
    parentId: PARENT_ID,
    parentName: 'C:\\disks\\parent.vhd',
    locators: [
      { code: 'W2ru', text: '.\\parent.vhd' },
      { code: 'W2ku', text: 'C:\\disks\\parent.vhd', spaceInSectors: true },
    ],
    blocks: [
      {
        index: 1,
        sectors: new Map([
          [0, 0x11],
          [1, 0x22],
          [31, 0x33],
        ]),
      },
    ],
    blockSize: BLOCK,
  });
}

function seal(bytes: Buffer, start: number, length: number, at: number): void {
  bytes.writeUInt32BE(0, start + at);
  let sum = 0;
  for (const byte of bytes.subarray(start, start + length)) sum += byte;
  bytes.writeUInt32BE(~sum >>> 0, start + at);
}

export function sealFooter(bytes: Buffer, start: number): Buffer {
  seal(bytes, start, 512, 64);
  return bytes;
}

export function sealHeader(bytes: Buffer, start = AT.header): Buffer {
  seal(bytes, start, 1024, 36);
  return bytes;
}

/** Changes the footer at the end (and the copy, where there is one) and makes the checksums right again. */
export function editFooters(bytes: Buffer, edit: (footer: Buffer) => void): Buffer {
  const starts = [bytes.length - 512];
  if (bytes.toString('latin1', 0, 8) === 'conectix') starts.push(0);
  for (const start of starts) {
    edit(bytes.subarray(start, start + 512));
    sealFooter(bytes, start);
  }
  return bytes;
}

export function editHeader(bytes: Buffer, edit: (header: Buffer) => void): Buffer {
  edit(bytes.subarray(AT.header, AT.header + 1024));
  return sealHeader(bytes);
}

/** A file that remembers the longest read, which shows allocations made by a lying size. */
export class WatchedFile extends MemoryFile {
  longestRead = 0;
  reads = 0;

  override async read(buffer: Uint8Array, offset: number): Promise<number> {
    this.longestRead = Math.max(this.longestRead, buffer.length);
    this.reads += 1;
    return super.read(buffer, offset);
  }
}

export function openBytes(bytes: Uint8Array, options: OpenImageOptions = {}): Promise<DiskImage> {
  const file = new MemoryFile(bytes, 'image.vhd');
  file.writable = false;
  return openVhd(file, options);
}

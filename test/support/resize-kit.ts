/**
 * Small partitioned images of every kind on a CrashDisk, and what can be read from its states.
 */

import { systemRandom } from '../../src/base/random.js';
import { systemTimer } from '../../src/base/timer.js';
import { type Chain, openChain } from '../../src/formats/chain.js';
import type { CreateImageOptions, DiskImage, FormatId, ImageType } from '../../src/formats/disk-image.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { createImage, openImage } from '../../src/formats/registry.js';
import { findPartitionTable, type PartitionTable } from '../../src/guestfs/partition-table.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import type { Host } from '../../src/operations/host.js';
import { CrashDisk, type CrashState } from './crash-disk.js';

export const MiB = 1024 * 1024;
/** Named as images that can have parents are: whatever its format, content decides. */
export const IMAGE = 'image.avhd';
export const PARENT = 'parent.vhd';

export interface ImageKind {
  format: FormatId;
  type: ImageType;
  blockSize?: number;
  sectorSize?: 512 | 4096;
}

export const KINDS: readonly ImageKind[] = [
  { format: 'raw', type: 'fixed' },
  { format: 'vhd', type: 'fixed' },
  { format: 'vhd', type: 'dynamic', blockSize: 256 * 1024 },
  { format: 'vhd', type: 'differencing', blockSize: 256 * 1024 },
  { format: 'vhdx', type: 'fixed', blockSize: MiB },
  { format: 'vhdx', type: 'dynamic', blockSize: MiB },
  { format: 'vhdx', type: 'differencing', blockSize: MiB },
  { format: 'vhdx', type: 'dynamic', blockSize: 2 * MiB, sectorSize: 4096 },
];

export const kindName = ({ format, type, sectorSize }: ImageKind): string =>
  `${type} ${format}${sectorSize === 4096 ? ' with 4 KiB sectors' : ''}`;

const clock = { now: () => 1.7e12 };

export function hostOn(disk: CrashDisk): Host {
  return { fileSystem: disk.fileSystem(), clock, random: systemRandom, timer: systemTimer };
}

/** Writes what is not zero, 64 KiB at a time. */
async function fill(image: DiskImage, content: Buffer, unlike?: Buffer): Promise<void> {
  const step = 64 * 1024;
  for (let at = 0; at < content.length; at += step) {
    const bytes = content.subarray(at, at + step);
    const below = unlike?.subarray(at, at + step) ?? Buffer.alloc(bytes.length);
    if (bytes.equals(below)) continue;
    const write = await image.prepareWrite(at, bytes.length);
    for (const { offset, length, file, fileOffset } of write.places) {
      await file.write(bytes.subarray(offset - at, offset - at + length), fileOffset);
    }
    await write.commit();
  }
}

async function build(
  name: string,
  kind: ImageKind,
  options: Partial<CreateImageOptions>,
  content: Buffer,
  below?: Buffer,
) {
  const file = new MemoryFile(new Uint8Array(0), name);
  const image = await createImage(file, kind.format, {
    type: kind.type,
    virtualSize: content.length,
    clock,
    random: systemRandom,
    ...(kind.blockSize === undefined ? {} : { blockSize: kind.blockSize }),
    ...(kind.sectorSize === undefined ? {} : { logicalSectorSize: kind.sectorSize }),
    ...options,
  });
  await fill(image, content, below);
  await image.flush();
  return file.bytes();
}

/**
 * An image that shows `content`. Of a differencing one, a parent (of `parentSize` bytes, full of `0x50` where
 * the content is zero or over) lies beneath.
 */
export async function crashDiskWith(
  kind: ImageKind,
  content: Buffer,
  parentSize = content.length,
): Promise<CrashDisk> {
  if (kind.type !== 'differencing') return new CrashDisk([[IMAGE, await build(IMAGE, kind, {}, content)]]);
  const below = Buffer.alloc(parentSize, 0x50);
  content.copy(below, 0, 0, Math.min(content.length / 2, parentSize));
  const parentBytes = await build(PARENT, { ...kind, type: 'dynamic' }, {}, below);
  const parent = await openImage(new MemoryFile(parentBytes, PARENT));
  const link = {
    ids: [parent.linkId ?? ''] as const,
    absolutePath: `/${PARENT}`,
    relativePath: PARENT,
    modified: 1.7e12,
    diskId: parent.id,
  };
  const shown = Buffer.alloc(content.length);
  below.copy(shown);
  const bytes = await build(IMAGE, kind, { parent: link }, content, shown);
  return new CrashDisk([
    [PARENT, parentBytes],
    [IMAGE, bytes],
  ]);
}

export interface Shown {
  type: ImageType;
  content: Buffer;
  table: PartitionTable | undefined;
  linkId: string | undefined;
}

/** What the image shows through its chain, in a state of the disk. */
export async function shownBy(files: CrashState, format: FormatId): Promise<Shown> {
  const chain: Chain = await openChain(new CrashDisk(files).fileSystem(), IMAGE, { format });
  const content = Buffer.alloc(chain.virtualSize);
  await readDisk(chain, content, 0);
  const read = async (offset: number, length: number) => content.subarray(offset, offset + length);
  const table = await findPartitionTable(read, content.length);
  return { type: chain.top.type, content, table, linkId: chain.top.linkId };
}

/** The table that is found when the primary header can't be read: it was being written when the power failed. */
export async function tableWithoutPrimary(
  content: Buffer,
  sectorSize: number,
): Promise<PartitionTable | undefined> {
  const torn = Buffer.from(content).fill(0xff, sectorSize + 8, sectorSize + 92);
  return findPartitionTable(async (offset, length) => torn.subarray(offset, offset + length), torn.length);
}

/** Findings of the image in a state of the disk that are errors. */
export async function errorsOf(files: CrashState, format: FormatId): Promise<string[]> {
  const image = await openImage(await new CrashDisk(files).fileSystem().open(IMAGE), { format });
  const findings = await image.check();
  return findings
    .filter(({ severity }) => severity === 'error')
    .map(({ code, message }) => `${code}: ${message}`);
}

/**
 * Group descriptors of ext2/3/4: read in order, each one verified.
 *
 * Invariant: a descriptor that is handed out has the right checksum (where the file system has checksums)
 * and points inside the file system. One block of descriptors is in memory at a time. Metadata that lies in
 * another group than its own (flex_bg) is collected as runs, at most MAX_FOREIGN_RUNS of them.
 *
 * Source: Linux, Documentation/filesystems/ext4, "Block Group Descriptors".
 */
import { inconsistent } from '../inconsistent.js';
import { extCrc16, extCrc32c } from './checksum.js';
import { type BlockRun, descriptorBlockPlace, descriptorsPerBlock, groupBlocks } from './layout.js';
import { INCOMPAT, RO_COMPAT, type Superblock } from './superblock.js';

/** Reads `count` blocks of the volume from block `first`. */
export type ReadBlocks = (first: number, count: number) => Promise<Uint8Array>;

const CHECKSUM_AT = 30;
const FLAG = { blockUninit: 2 } as const;
/** Ours: bounds memory to some MiB. A flex group of 16 groups gives three runs. */
const MAX_FOREIGN_RUNS = 2 ** 20;

export interface GroupDescriptor {
  group: number;
  blockBitmap: number;
  inodeBitmap: number;
  inodeTable: number;
  /** Clusters. */
  freeClusters: number;
  /** The block bitmap was never written: it follows from the layout. */
  blockUninit: boolean;
  /** As stored; only the low half with small descriptors. */
  bitmapChecksum: number;
}

export function inodeTableBlocks(sb: Superblock): number {
  return Math.ceil((sb.inodesPerGroup * sb.inodeSize) / sb.blockSize);
}

function checksumOf(sb: Superblock, group: number, bytes: Uint8Array): number {
  const number = new Uint8Array(4);
  new DataView(number.buffer).setUint32(0, group, true);
  if (sb.checksumSeed !== undefined) {
    const blanked = Uint8Array.from(bytes);
    blanked.fill(0, CHECKSUM_AT, CHECKSUM_AT + 2);
    return extCrc32c(extCrc32c(sb.checksumSeed, number), blanked) & 0xffff;
  }
  let crc = extCrc16(extCrc16(0xffff, sb.uuid), number);
  crc = extCrc16(crc, bytes.subarray(0, CHECKSUM_AT));
  return extCrc16(crc, bytes.subarray(CHECKSUM_AT + 2));
}

function hasChecksums(sb: Superblock): boolean {
  return sb.checksumSeed !== undefined || (sb.roCompat & RO_COMPAT.gdtCsum) !== 0;
}

function decode(sb: Superblock, group: number, bytes: Uint8Array): GroupDescriptor {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = sb.descriptorSize >= 64;
  const u32 = (low: number, high: number): number =>
    view.getUint32(low, true) + (wide ? view.getUint32(high, true) * 2 ** 32 : 0);
  const u16 = (low: number, high: number): number =>
    view.getUint16(low, true) + (wide ? view.getUint16(high, true) * 2 ** 16 : 0);
  return {
    group,
    blockBitmap: u32(0, 32),
    inodeBitmap: u32(4, 36),
    inodeTable: u32(8, 40),
    freeClusters: u16(12, 44),
    blockUninit: (view.getUint16(18, true) & FLAG.blockUninit) !== 0,
    bitmapChecksum: u16(24, 56),
  };
}

/** The bitmaps and the inode table that a descriptor names. */
export function ownMetadata(sb: Superblock, descriptor: GroupDescriptor): BlockRun[] {
  return [
    { first: descriptor.blockBitmap, count: 1 },
    { first: descriptor.inodeBitmap, count: 1 },
    { first: descriptor.inodeTable, count: inodeTableBlocks(sb) },
  ];
}

export function isInside(inner: BlockRun, outer: BlockRun): boolean {
  return inner.first >= outer.first && inner.first + inner.count <= outer.first + outer.count;
}

function verify(sb: Superblock, descriptor: GroupDescriptor, bytes: Uint8Array): void {
  const { group } = descriptor;
  if (hasChecksums(sb)) {
    const stored = (bytes[CHECKSUM_AT] ?? 0) | ((bytes[CHECKSUM_AT + 1] ?? 0) << 8);
    if (stored !== checksumOf(sb, group, bytes))
      throw inconsistent(`the checksum of the descriptor of group ${group} is wrong`);
  } else if (descriptor.blockUninit) {
    throw inconsistent(`group ${group} is marked uninitialised without checksums`);
  }
  const flex = (sb.incompat & INCOMPAT.flexBg) !== 0;
  const bounds = flex
    ? { first: sb.firstDataBlock, count: sb.blocks - sb.firstDataBlock }
    : groupBlocks(sb, group);
  if (!ownMetadata(sb, descriptor).every((run) => isInside(run, bounds)))
    throw inconsistent(`the metadata of group ${group} lies outside the ${flex ? 'file system' : 'group'}`);
}

/**
 * All descriptors, in order, verified.
 * @throws IMAGE_CORRUPT (`inconsistent`)
 */
export async function* readDescriptors(sb: Superblock, read: ReadBlocks): AsyncGenerator<GroupDescriptor> {
  const perBlock = descriptorsPerBlock(sb);
  for (let first = 0; first < sb.groups; first += perBlock) {
    const place = descriptorBlockPlace(sb, first / perBlock);
    if (place >= sb.blocks) throw inconsistent(`descriptors of group ${first} outside the file system`);
    const block = await read(place, 1);
    const end = Math.min(first + perBlock, sb.groups);
    for (let group = first; group < end; group += 1) {
      const at = (group - first) * sb.descriptorSize;
      const bytes = block.subarray(at, at + sb.descriptorSize);
      const descriptor = decode(sb, group, bytes);
      verify(sb, descriptor, bytes);
      yield descriptor;
    }
  }
}

/** Runs of metadata that no group's own descriptor leads to: sorted, apart from each other. */
export class ForeignMetadata {
  readonly #runs: BlockRun[] = [];
  /** The last run of each of the three kinds: the next group's usually follows it. */
  readonly #open: (BlockRun | undefined)[] = [undefined, undefined, undefined];

  /** Notes what of a group's metadata lies in other groups. */
  add(sb: Superblock, descriptor: GroupDescriptor): void {
    const home = groupBlocks(sb, descriptor.group);
    for (const [kind, run] of ownMetadata(sb, descriptor).entries()) {
      if (isInside(run, home)) continue;
      const open = this.#open[kind];
      if (open && open.first + open.count === run.first) {
        open.count += run.count;
        continue;
      }
      this.addRun(run);
      this.#open[kind] = run;
    }
  }

  addRun(run: BlockRun): void {
    if (this.#runs.push(run) > MAX_FOREIGN_RUNS)
      throw inconsistent('its metadata is scattered over more places than is supported');
  }

  /** Sorts the runs. @throws IMAGE_CORRUPT (`inconsistent`) when two of them claim the same blocks */
  seal(): readonly BlockRun[] {
    this.#runs.sort((a, b) => a.first - b.first);
    for (const [index, run] of this.#runs.entries()) {
      const before = this.#runs[index - 1];
      if (before && before.first + before.count > run.first)
        throw inconsistent(`two structures claim block ${run.first}`);
    }
    return this.#runs;
  }
}

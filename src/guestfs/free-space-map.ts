/**
 * The free space of a whole disk: its volumes, each judged by the reader that knows its file system.
 *
 * Invariants: ranges come in order, inside a volume that a reader called free, and never touch what is on no
 * volume. A volume that two readers claim, or a reader and a signature of something opaque, stays. A
 * suspended system anywhere on the disk keeps all of it. Swap areas and btrfs do not record whether the
 * system was shut down; they are free only beside file systems that do, and that say so: a virtual machine
 * that was saved while it ran will go on with what it had in memory.
 */
import { assert } from '../base/assert.js';
import type { ByteRange } from '../io/random-access-file.js';
import { btrfsFreeSpace } from './btrfs/free-space.js';
import { exfatFreeSpace } from './exfat/free-space.js';
import { extFreeSpace } from './ext/free-space.js';
import { fatFreeSpace } from './fat/free-space.js';
import type { FreeSpace, FreeSpaceAnswer, FreeSpaceReader, VolumeRange, VolumeReport } from './free-space.js';
import { ntfsFreeSpace } from './ntfs/free-space.js';
import type { ReadBytes, TableSectorSize } from './partition-table.js';
import { opaqueKind, weakKind } from './signatures.js';
import { swapFreeSpace } from './swap/free-space.js';
import { type FoundVolume, findVolumes } from './volumes.js';
import { xfsFreeSpace } from './xfs/free-space.js';

const READERS: readonly FreeSpaceReader[] = [
  extFreeSpace,
  ntfsFreeSpace,
  fatFreeSpace,
  exfatFreeSpace,
  xfsFreeSpace,
  btrfsFreeSpace,
  swapFreeSpace,
];

/** Kinds that mean a file system of a running machine when they are kept. */
const FILE_SYSTEMS: ReadonlySet<string> = new Set([
  'ext2',
  'ext3',
  'ext4',
  'ext2/3/4',
  'ntfs',
  'fat12',
  'fat16',
  'fat32',
  'exfat',
  'xfs',
  'btrfs',
  'ambiguous',
]);

/** Kinds that do not tell whether they are in use. */
const SILENT: ReadonlySet<string> = new Set(['swap', 'btrfs']);

export interface DiskFreeSpace {
  /** Every volume, in the order of the disk. */
  reports: VolumeReport[];
  /** Sum of what the reports call free. */
  freeBytes: number;
  /** Free ranges in order, disk offsets. Walked anew on each call. @throws IMAGE_CORRUPT as `FreeSpace` does */
  ranges(): AsyncIterable<ByteRange>;
}

export interface FreeSpaceOptions {
  /** Bytes of the disk's sectors, where something says so; counts for MBR tables. */
  sectorSize?: TableSectorSize;
}

type Claim = Exclude<FreeSpaceAnswer, { status: 'other' }>;

interface Judged {
  volume: VolumeRange;
  claim: Claim;
}

function kept(kind: string, reason: string): Claim {
  return { status: 'kept', kind, reason };
}

function kindOf(claim: Claim): string {
  return claim.status === 'free' ? claim.space.kind : claim.kind;
}

async function judge(read: ReadBytes, found: FoundVolume): Promise<Claim> {
  if (found.keep) return kept(found.keep.kind, found.keep.reason);
  const opaque = await opaqueKind(read, found);
  const claims: Claim[] = [];
  for (const reader of READERS) {
    const answer = await reader(read, found);
    if (answer.status !== 'other') claims.push(answer);
  }
  const suspended = claims.find((claim) => claim.status === 'kept' && claim.hibernated);
  if (suspended) return suspended;
  if (opaque !== undefined) return kept(opaque, 'its contents are opaque');
  const [first, second] = claims;
  if (first && second) return kept('ambiguous', `it looks like ${kindOf(first)} and like ${kindOf(second)}`);
  return first ?? kept((await weakKind(read, found)) ?? 'unknown', 'its contents are not understood');
}

/** Keeps what depends on other volumes of the disk. */
function keepTogether(judged: readonly Judged[]): Judged[] {
  const suspended = judged.find(({ claim }) => claim.status === 'kept' && claim.hibernated);
  const unclean = judged.find(({ claim }) => claim.status === 'kept' && FILE_SYSTEMS.has(claim.kind));
  return judged.map(({ volume, claim }) => {
    if (claim.status !== 'free') return { volume, claim };
    const { kind } = claim.space;
    if (suspended)
      return { volume, claim: kept(kind, `a suspended system is stored on ${suspended.volume.name}`) };
    if (SILENT.has(kind) && unclean)
      return {
        volume,
        claim: kept(kind, `${unclean.volume.name} was kept: the system may not be shut down`),
      };
    return { volume, claim };
  });
}

function report({ volume: { offset, length, name }, claim }: Judged): VolumeReport {
  const volume = { offset, length, name };
  if (claim.status === 'free')
    return { volume, kind: claim.space.kind, verdict: 'read', freeBytes: claim.space.freeBytes };
  return { volume, kind: claim.kind, verdict: 'kept', reason: claim.reason, freeBytes: 0 };
}

async function* rangesOf(
  spaces: readonly { volume: VolumeRange; space: FreeSpace }[],
): AsyncGenerator<ByteRange> {
  for (const { volume, space } of spaces) {
    let end = volume.offset;
    for await (const range of space.ranges()) {
      const next = range.offset + range.length;
      const inOrder = range.length > 0 && range.offset >= end;
      assert(inOrder && next <= volume.offset + volume.length, `free range outside ${volume.name}`);
      end = next;
      yield range;
    }
  }
}

/**
 * Reads and checks the free space of all volumes of a disk of `size` bytes.
 * @throws what `read` throws; what the guest did to its disk never throws, it keeps volumes
 */
export async function readFreeSpace(
  read: ReadBytes,
  size: number,
  options: FreeSpaceOptions = {},
): Promise<DiskFreeSpace> {
  const judged: Judged[] = [];
  for (const found of await findVolumes(read, size, options.sectorSize))
    judged.push({ volume: found, claim: await judge(read, found) });
  const settled = keepTogether(judged);
  const spaces = settled.flatMap(({ volume, claim }) =>
    claim.status === 'free' ? [{ volume, space: claim.space }] : [],
  );
  return {
    reports: settled.map(report),
    freeBytes: spaces.reduce((sum, { space }) => sum + space.freeBytes, 0),
    ranges: () => rangesOf(spaces),
  };
}

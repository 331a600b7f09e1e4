/**
 * Small exFAT volumes for tests, written straight from Microsoft's specification, without the code under test.
 */
import type { Patch, SmallVolume } from '../free-space-kit.js';

export interface ExfatFile {
  name: string;
  /** In order; without a chain they have to be contiguous. */
  clusters: number[];
  size?: number;
  noChain?: boolean;
  entries?: ExfatFile[];
}

export interface ExfatSpec {
  clusters?: number;
  sectorShift?: number;
  perClusterShift?: number;
  bitmap?: number[];
  root?: number[];
  files?: ExfatFile[];
  flags?: number;
  /** Adds a second bitmap entry. */
  twoBitmaps?: boolean;
}

export interface ExfatVolume extends SmallVolume {
  fatAt: number;
  clusterAt(cluster: number): number;
  bitmapAt: number;
}

const UP_CASE_BYTES = 700;

export function entrySum(set: Uint8Array): number {
  let sum = 0;
  for (const [index, byte] of set.entries())
    if (index !== 2 && index !== 3) sum = ((sum & 1 ? 0x8000 : 0) + (sum >> 1) + byte) & 0xffff;
  return sum;
}

function putAllocation(entry: Buffer, first: number, size: number): Buffer {
  entry.writeUInt32LE(first, 20);
  entry.writeBigUInt64LE(BigInt(size), 24);
  return entry;
}

function fileSet(file: ExfatFile, clusterBytes: number): Buffer {
  const set = Buffer.alloc(96);
  const size = file.size ?? file.clusters.length * clusterBytes;
  set[0] = 0x85;
  set[1] = 2;
  set.writeUInt16LE(file.entries ? 0x10 : 0x20, 4);
  set[32] = 0xc0;
  set[33] = file.noChain ? 3 : 1;
  set[35] = file.name.length;
  set.writeBigUInt64LE(BigInt(size), 40);
  putAllocation(set.subarray(32, 64), file.clusters[0] ?? 0, size);
  set[64] = 0xc1;
  set.write(file.name, 66, 'utf16le');
  set.writeUInt16LE(entrySum(set), 2);
  return set;
}

/** Sum over the first eleven sectors, written all over the twelfth. */
export function sealBoot(disk: Buffer, sectorBytes = 512): void {
  let sum = 0;
  for (let at = 0; at < 11 * sectorBytes; at += 1) {
    if (at === 106 || at === 107 || at === 112) continue;
    sum = ((sum & 1 ? 0x80000000 : 0) + Math.floor(sum / 2) + (disk[at] ?? 0)) % 2 ** 32;
  }
  for (let at = 11 * sectorBytes; at < 12 * sectorBytes; at += 4) disk.writeUInt32LE(sum, at);
}

/** Patches of the boot sector, with the checksum that goes with them. */
export function sealed({ disk }: SmallVolume, ...patches: Patch[]): Buffer {
  const copy = Buffer.from(disk);
  for (const { offset, bytes } of patches) copy.set(bytes, offset);
  sealBoot(copy);
  return copy;
}

export function exfatVolume(spec: ExfatSpec = {}): ExfatVolume {
  const { clusters = 5000, sectorShift = 9, perClusterShift = 0, files = [] } = spec;
  const { root = [8], flags = 0 } = spec;
  const sectorBytes = 2 ** sectorShift;
  const clusterBytes = sectorBytes * 2 ** perClusterShift;
  const holding = (bytes: number, from: readonly number[]) => from.slice(0, Math.ceil(bytes / clusterBytes));
  const bitmap = spec.bitmap ?? holding(clusters / 8, [2, 3]);
  const upCase = holding(UP_CASE_BYTES, [4, 5]);
  const fatSector = 24;
  const fatSectors = Math.ceil(((clusters + 2) * 4) / sectorBytes);
  const heapSector = fatSector + fatSectors + 3;
  const total = heapSector + clusters * 2 ** perClusterShift;
  const disk = Buffer.alloc(total * sectorBytes);
  const heap = heapSector * sectorBytes;
  const clusterAt = (cluster: number): number => heap + (cluster - 2) * clusterBytes;
  const fatAt = fatSector * sectorBytes;
  const used = new Uint8Array(clusters);
  const structures = [{ offset: fatAt, length: 512 }];

  disk.writeUInt32LE(0xfffffff8, fatAt);
  disk.writeUInt32LE(0xffffffff, fatAt + 4);
  const claim = (chain: readonly number[], noChain = false): void => {
    for (const [index, cluster] of chain.entries()) {
      used[cluster - 2] = 1;
      if (!noChain) disk.writeUInt32LE(chain[index + 1] ?? 0xffffffff, fatAt + cluster * 4);
    }
  };
  const put = (chain: readonly number[], bytes: Uint8Array): void => {
    for (const [index, cluster] of chain.entries()) {
      const part = bytes.subarray(index * clusterBytes, (index + 1) * clusterBytes);
      disk.set(part, clusterAt(cluster));
      structures.push({ offset: clusterAt(cluster), length: Math.min(clusterBytes, 512) });
    }
  };
  const visit = (chain: readonly number[], entries: readonly ExfatFile[], head: readonly Buffer[]): void => {
    put(chain, Buffer.concat([...head, ...entries.map((file) => fileSet(file, clusterBytes))]));
    for (const file of entries) {
      claim(file.clusters, file.noChain);
      if (file.entries) visit(file.clusters, file.entries, []);
    }
  };

  claim(bitmap);
  claim(upCase);
  claim(root);
  const bitmapBytes = Math.ceil(clusters / 8);
  const label = Buffer.alloc(32);
  label[0] = 0x83;
  const bitmapEntry = putAllocation(Buffer.alloc(32), bitmap[0] ?? 0, bitmapBytes);
  bitmapEntry[0] = 0x81;
  const second = Buffer.from(bitmapEntry);
  second[1] = 1;
  const upCaseEntry = putAllocation(Buffer.alloc(32), upCase[0] ?? 0, UP_CASE_BYTES);
  upCaseEntry[0] = 0x82;
  const deleted = Buffer.alloc(32, 0x11);
  deleted[0] = 0x05;
  const head = [label, bitmapEntry, ...(spec.twoBitmaps ? [second] : []), upCaseEntry, deleted];
  visit(root, files, head);
  const marks = Buffer.alloc(bitmapBytes);
  for (const [cluster, isUsed] of used.entries())
    if (isUsed) marks[cluster >> 3] = (marks[cluster >> 3] ?? 0) | (1 << (cluster & 7));
  put(bitmap, marks);

  disk.set([0xeb, 0x76, 0x90]);
  disk.write('EXFAT   ', 3);
  disk.writeBigUInt64LE(BigInt(total), 72);
  for (const [index, value] of [fatSector, fatSectors, heapSector, clusters, root[0] ?? 0].entries())
    disk.writeUInt32LE(value, 80 + index * 4);
  disk.writeUInt16LE(0x100, 104);
  disk.writeUInt16LE(flags, 106);
  disk.set([sectorShift, perClusterShift, 1, 0x80, 0xff], 108);
  disk.writeUInt16LE(0xaa55, 510);
  sealBoot(disk, sectorBytes);
  const bitmapAt = clusterAt(bitmap[0] ?? 2);
  structures.push({ offset: 0, length: 512 });
  return { disk, clusterBytes, firstCluster: heap, used, structures, fatAt, clusterAt, bitmapAt };
}

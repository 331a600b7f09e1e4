/**
 * Small FAT volumes for tests, written straight from Microsoft's description, without the code under test.
 */
import type { SmallVolume } from '../free-space-kit.js';

export interface FatFile {
  /** Eight and three characters. */
  name: string;
  /** In the order of the chain. */
  clusters: number[];
  size?: number;
  /** Makes it a folder. */
  entries?: FatFile[];
  content?: Uint8Array;
}

export interface FatSpec {
  kind: 'fat12' | 'fat16' | 'fat32';
  clusters: number;
  perCluster?: number;
  sectorBytes?: number;
  copies?: number;
  rootEntries?: number;
  media?: number;
  files?: FatFile[];
  bad?: number[];
}

export interface FatVolume extends SmallVolume {
  fatAt: number;
  fatBytes: number;
  rootAt: number;
  clusterAt(cluster: number): number;
  /** The byte where the entry of a cluster is (FAT16 and FAT32). */
  entryAt(cluster: number): number;
}

const BITS = { fat12: 12, fat16: 16, fat32: 32 } as const;
const LAST = { fat12: 0xfff, fat16: 0xffff, fat32: 0x0fffffff } as const;

function entryOf({ name, clusters, size, entries }: FatFile, clusterBytes: number): Buffer {
  const entry = Buffer.alloc(32);
  entry.write(name.padEnd(11), 'latin1');
  entry[11] = entries ? 0x10 : 0x20;
  const [first = 0] = clusters;
  entry.writeUInt16LE(first >>> 16, 20);
  entry.writeUInt16LE(first & 0xffff, 26);
  entry.writeUInt32LE(entries ? 0 : (size ?? clusters.length * clusterBytes), 28);
  return entry;
}

/** Writes one copy of the table. */
function writeTable(table: Buffer, kind: FatSpec['kind'], values: ReadonlyMap<number, number>): void {
  for (const [cluster, value] of values) {
    if (kind === 'fat32') table.writeUInt32LE(value, cluster * 4);
    else if (kind === 'fat16') table.writeUInt16LE(value, cluster * 2);
    else {
      const at = Math.floor(cluster * 1.5);
      const old = table.readUInt16LE(at);
      table.writeUInt16LE(cluster % 2 === 0 ? (old & 0xf000) | value : (old & 0xf) | (value << 4), at);
    }
  }
}

function chainValues(spec: FatSpec, files: readonly FatFile[]): Map<number, number> {
  const last = LAST[spec.kind];
  const values = new Map([
    [0, last - 0xff + (spec.media ?? 0xf8)],
    [1, last],
  ]);
  for (const { clusters } of files)
    for (const [index, cluster] of clusters.entries()) values.set(cluster, clusters[index + 1] ?? last);
  for (const cluster of spec.bad ?? []) values.set(cluster, last - 8);
  return values;
}

/** A volume with the files asked for. On FAT32 the root folder is cluster 2. */
export function fatVolume(spec: FatSpec): FatVolume {
  const { kind, clusters, perCluster = 1, sectorBytes = 512, copies = 2, files = [] } = spec;
  const isFat32 = kind === 'fat32';
  const rootEntries = isFat32 ? 0 : (spec.rootEntries ?? 512);
  const clusterBytes = perCluster * sectorBytes;
  const reserved = isFat32 ? 32 : 1;
  const fatSectors = Math.ceil(((clusters + 2) * BITS[kind]) / 8 / sectorBytes);
  const fatAt = reserved * sectorBytes;
  const fatBytes = fatSectors * sectorBytes;
  const rootAt = fatAt + copies * fatBytes;
  const data = rootAt + Math.ceil((rootEntries * 32) / sectorBytes) * sectorBytes;
  const total = data / sectorBytes + clusters * perCluster;
  const disk = Buffer.alloc(total * sectorBytes);
  const clusterAt = (cluster: number): number => data + (cluster - 2) * clusterBytes;

  const root: FatFile = { name: '', clusters: isFat32 ? [2] : [], entries: files };
  const all: FatFile[] = [];
  const structures = [{ offset: 0, length: 512 }];
  const visit = (folder: FatFile, parent: number): void => {
    all.push(folder);
    const entries = (folder.entries ?? []).map((file) => entryOf(file, clusterBytes));
    const [self = 0] = folder.clusters;
    if (folder !== root) {
      entries.unshift(entryOf({ name: '..', clusters: [parent], entries: [] }, clusterBytes));
      entries.unshift(entryOf({ name: '.', clusters: [self], entries: [] }, clusterBytes));
    }
    const at = folder === root && !isFat32 ? rootAt : clusterAt(self);
    Buffer.concat(entries).copy(disk, at);
    structures.push({ offset: at, length: 32 * (entries.length + 1) });
    for (const file of folder.entries ?? []) {
      if (file.entries) visit(file, folder === root ? 0 : self);
      else all.push(file);
      if (file.content) disk.set(file.content, clusterAt(file.clusters[0] ?? 2));
    }
  };
  visit(root, 0);

  const values = chainValues(spec, all);
  for (let copy = 0; copy < copies; copy += 1) {
    const at = fatAt + copy * fatBytes;
    writeTable(disk.subarray(at, at + fatBytes), kind, values);
    structures.push({ offset: at, length: Math.min(fatBytes, 256) });
  }
  writeBoot(disk, { ...spec, perCluster, sectorBytes, copies, rootEntries, reserved, fatSectors, total });
  const used = new Uint8Array(clusters);
  for (const cluster of values.keys()) if (cluster >= 2) used[cluster - 2] = 1;
  const entryAt = (cluster: number): number => fatAt + cluster * (BITS[kind] / 8);
  return {
    disk,
    clusterBytes,
    firstCluster: data,
    used,
    structures,
    fatAt,
    fatBytes,
    rootAt,
    clusterAt,
    entryAt,
  };
}

interface BootSpec extends Required<Pick<FatSpec, 'perCluster' | 'sectorBytes' | 'copies' | 'rootEntries'>> {
  kind: FatSpec['kind'];
  media?: number;
  reserved: number;
  fatSectors: number;
  total: number;
}

function writeBoot(disk: Buffer, spec: BootSpec): void {
  const isFat32 = spec.kind === 'fat32';
  disk.set([0xeb, 0x58, 0x90]);
  disk.write('MSWIN4.1', 3);
  disk.writeUInt16LE(spec.sectorBytes, 11);
  disk[13] = spec.perCluster;
  disk.writeUInt16LE(spec.reserved, 14);
  disk[16] = spec.copies;
  disk.writeUInt16LE(spec.rootEntries, 17);
  disk[21] = spec.media ?? 0xf8;
  disk.writeUInt32LE(spec.total, 32);
  if (isFat32) {
    disk.writeUInt32LE(spec.fatSectors, 36);
    disk.writeUInt32LE(2, 44);
    disk.writeUInt16LE(1, 48);
    disk.writeUInt16LE(6, 50);
  } else {
    disk.writeUInt16LE(spec.fatSectors, 22);
  }
  disk.writeUInt16LE(0xaa55, 510);
  if (isFat32) disk.copy(disk, 6 * spec.sectorBytes, 0, 512);
}

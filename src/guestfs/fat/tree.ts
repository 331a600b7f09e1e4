/**
 * Follows all files and folders of a FAT volume through the allocation table.
 *
 * Invariants: when this passes, every cluster of every file is in use by the table, and each file has as
 * many clusters as its size needs. All chains together are never longer than the number of used clusters,
 * so loops and files that share clusters end the walk. Memory is bounded by the number of folders.
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { viewOf } from '../volume-bytes.js';
import type { FatBoot } from './boot.js';
import type { FatTable } from './table.js';

const ENTRY = 32;
/** A folder has at most 65536 entries. */
const MAX_FOLDER = 65536 * ENTRY;
const MAX_OPEN_FOLDERS = 1_000_000;
const ATTRIBUTE = { label: 0x08, folder: 0x10, longName: 0x0f, mask: 0x3f, reserved: 0xc0 } as const;
const DELETED = 0xe5;
const HIBERNATION_HEADER = 512;

export interface TreeSeen {
  /** The lowest and highest first cluster of folders that name themselves: proof of where clusters are. */
  folders: { lowest: number; highest: number } | undefined;
  /** A file of two or more clusters was there: its size proves the size of clusters. */
  sawLongFile: boolean;
  /** hiberfil.sys in the root folder is not empty. */
  isHibernated: boolean;
}

interface Entry {
  name: string;
  isFolder: boolean;
  first: number;
  size: number;
}

/** Entry layout: name 0 (11 bytes), attributes 11, first cluster high 20 and low 26, size 28. */
function decodeEntry(bytes: Uint8Array, hasHigh: boolean): Entry | undefined {
  const attributes = bytes[11] ?? 0;
  const [initial = 0] = bytes;
  if (initial === DELETED || (attributes & ATTRIBUTE.mask) === ATTRIBUTE.longName) return undefined;
  const name = bytes.subarray(0, 11);
  // 0x05 stands for an 0xE5 that belongs to the name.
  const isName = name.every((byte, index) => byte >= 0x20 || (index === 0 && byte === 0x05));
  if (!isName || (attributes & ATTRIBUTE.reserved) !== 0)
    throw inconsistent('a folder holds something that is no entry');
  if ((attributes & ATTRIBUTE.label) !== 0) return undefined;
  const view = viewOf(bytes);
  return {
    name: Buffer.from(name).toString('latin1'),
    isFolder: (attributes & ATTRIBUTE.folder) !== 0,
    first: view.getUint16(26, true) + (hasHigh ? view.getUint16(20, true) * 65536 : 0),
    size: view.getUint32(28, true),
  };
}

class TreeWalk {
  readonly seen: TreeSeen = { folders: undefined, sawLongFile: false, isHibernated: false };
  readonly #read: ReadBytes;
  readonly #boot: FatBoot;
  readonly #table: FatTable;
  /** Used clusters that no chain went through yet, as far as the number tells. */
  #left: number;
  readonly #open: number[] = [];

  constructor(read: ReadBytes, boot: FatBoot, table: FatTable, used: number) {
    this.#read = read;
    this.#boot = boot;
    this.#table = table;
    this.#left = used;
  }

  async run(): Promise<void> {
    const { kind, root, rootCluster } = this.#boot;
    if (kind === 'fat32') await this.#folder(rootCluster, true);
    else await this.#fixedRoot(root.offset, root.entries * ENTRY);
    for (let first = this.#open.pop(); first !== undefined; first = this.#open.pop())
      await this.#folder(first, false);
  }

  async #fixedRoot(offset: number, length: number): Promise<void> {
    const bytes = await this.#read(offset, length);
    for (let at = 0; at < length && bytes[at] !== 0; at += ENTRY)
      await this.#entry(bytes.subarray(at, at + ENTRY), true);
  }

  async #folder(first: number, isRoot: boolean): Promise<void> {
    const { data, clusterBytes } = this.#boot;
    let seen = 0;
    let isOver = false;
    for (let at: number | undefined = first; at !== undefined; at = await this.#step(at)) {
      // Looked up before the content is read: the cluster may not exist.
      await this.#table.next(at);
      const bytes = await this.#read(data + (at - 2) * clusterBytes, clusterBytes);
      if (seen === 0 && !isRoot) this.#checkSelf(bytes, first);
      for (let entry = 0; entry < clusterBytes && !isOver; entry += ENTRY) {
        isOver = bytes[entry] === 0;
        if (!isOver) await this.#entry(bytes.subarray(entry, entry + ENTRY), isRoot);
      }
      seen += clusterBytes;
      if (seen >= MAX_FOLDER + clusterBytes) throw inconsistent('a folder is too long');
    }
  }

  /** A folder begins with `.`, which names its own cluster, and `..`. */
  #checkSelf(bytes: Uint8Array, first: number): void {
    const hasHigh = this.#boot.kind === 'fat32';
    const self = decodeEntry(bytes.subarray(0, ENTRY), hasHigh);
    const parent = decodeEntry(bytes.subarray(ENTRY, 2 * ENTRY), hasHigh);
    if (self?.name.trimEnd() !== '.' || parent?.name.trimEnd() !== '..' || self.first !== first)
      throw inconsistent(`the folder at cluster ${first} is none`);
    const { lowest, highest } = this.seen.folders ?? { lowest: first, highest: first };
    this.seen.folders = { lowest: Math.min(lowest, first), highest: Math.max(highest, first) };
  }

  async #entry(bytes: Uint8Array, isInRoot: boolean): Promise<void> {
    const entry = decodeEntry(bytes, this.#boot.kind === 'fat32');
    if (!entry || (!isInRoot && (entry.name.startsWith('. ') || entry.name.startsWith('.. ')))) return;
    if (entry.isFolder) {
      if (this.#open.push(entry.first) > MAX_OPEN_FOLDERS) throw inconsistent('it has too many folders');
      return;
    }
    await this.#file(entry);
    if (isInRoot && entry.name === 'HIBERFILSYS') await this.#checkHibernation(entry);
  }

  async #file({ first, size }: Entry): Promise<void> {
    const expected = Math.ceil(size / this.#boot.clusterBytes);
    let found = 0;
    for (let at = first === 0 ? undefined : first; at !== undefined; at = await this.#step(at)) {
      found += 1;
      if (found > expected) break;
    }
    if (found !== expected) throw inconsistent('a file has another number of clusters than its size needs');
    if (found > 1) this.seen.sawLongFile = true;
  }

  async #checkHibernation({ first, size }: Entry): Promise<void> {
    if (size === 0) return;
    const header = await this.#read(
      this.#boot.data + (first - 2) * this.#boot.clusterBytes,
      HIBERNATION_HEADER,
    );
    if (header.some((byte) => byte !== 0)) this.seen.isHibernated = true;
  }

  async #step(cluster: number): Promise<number | undefined> {
    this.#left -= 1;
    if (this.#left < 0) throw inconsistent('its files share clusters, or a file never ends');
    return this.#table.next(cluster);
  }
}

/**
 * @param read offsets from the volume's start
 * @param used clusters that the table calls used
 * @throws IMAGE_CORRUPT (inconsistent) when files and table contradict each other
 */
export async function walkTree(
  read: ReadBytes,
  boot: FatBoot,
  table: FatTable,
  used: number,
): Promise<TreeSeen> {
  const walk = new TreeWalk(read, boot, table, used);
  await walk.run();
  return walk.seen;
}

/**
 * VHDX images from a description: differencing ones, odd states, dirty logs, things no writer of ours makes.
 *
 * Layout: log at 1 MiB, metadata, BAT, then whatever the blocks need, in the order described. The table
 * arithmetic here is written again from the specification (with BigInt), not shared with the code under
 * test; headers, region tables and the like come from vhdkit's encoders, which real images check.
 */

import { guidToMixedEndian, NIL_GUID } from '../../src/base/guid.js';
import { encodeHeader, encodeIdentifier, type VhdxHeader } from '../../src/formats/vhdx/header.js';
import { encodeLogEntry, type NewLogEntry } from '../../src/formats/vhdx/log-codec.js';
import { encodeMetadata, type NewItem } from '../../src/formats/vhdx/metadata-table.js';
import { encodeParentLocator } from '../../src/formats/vhdx/parent-locator.js';
import { encodeRegionTable, type RegionEntry } from '../../src/formats/vhdx/region-table.js';
import { MemoryFile } from '../../src/io/memory-file.js';

export const MIB = 1024 * 1024;
export const DATA_WRITE_GUID = '11111111-2222-4333-8444-555555555555';
export const LOG_GUID = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee';

export interface BlockDescription {
  index: number;
  /** 0…7; 6 when left out, 7 in an image with a parent. */
  state?: number;
  /** Bytes, at offsets within the block. */
  data?: readonly { offset: number; bytes: Uint8Array }[];
  /** Sectors of the block that are marked as present, [from, to); those that `data` touches when left out. */
  present?: readonly (readonly [number, number])[];
  /** File offset in MiB instead of the next free place; 0 stores none. */
  offsetMiB?: number;
}

export interface ParentDescription {
  /** DataWriteGuid of the parent. */
  linkage: string;
  linkage2?: string;
  relativePath?: string;
  volumePath?: string;
  absolutePath?: string;
}

export interface VhdxDescription {
  virtualSize: number;
  blockSize?: number;
  logicalSectorSize?: 512 | 4096;
  physicalSectorSize?: 512 | 4096;
  /** LeaveBlocksAllocated. */
  fixed?: boolean;
  /** Makes it a differencing image. */
  parent?: ParentDescription;
  blocks?: readonly BlockDescription[];
  dataWriteGuid?: string;
  virtualDiskId?: string;
  logLength?: number;
  /** Marks the log as in use. */
  logGuid?: string;
  creator?: string;
  name?: string;
  /** Last changes to what is written. */
  items?: (items: NewItem[]) => NewItem[];
  regions?: (regions: RegionEntry[]) => RegionEntry[];
  header?: (header: VhdxHeader) => VhdxHeader;
}

/** Where the builder put things, in bytes. */
export interface VhdxPlaces {
  log: number;
  logLength: number;
  metadata: number;
  bat: number;
  batLength: number;
  /** File offset of a payload block's BAT entry. */
  entryOf(block: number): number;
  /** File offset of a chunk's sector bitmap entry. */
  bitmapEntryOf(chunk: number): number;
  /** File offsets of the payload of described blocks. */
  payload: Map<number, number>;
  /** File offsets of sector bitmap blocks by chunk. */
  bitmaps: Map<number, number>;
}

export interface BuiltVhdx {
  file: MemoryFile;
  places: VhdxPlaces;
}

export function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function u64(value: number | bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** The eight bytes of a BAT entry. */
export function batEntry(state: number, offsetMiB: number | bigint): Uint8Array {
  return u64((BigInt(offsetMiB) << 20n) | BigInt(state));
}

function locatorItem(parent: ParentDescription): NewItem {
  const pairs = new Map<string, string>([['parent_linkage', `{${parent.linkage}}`]]);
  if (parent.linkage2 !== undefined) pairs.set('parent_linkage2', `{${parent.linkage2}}`);
  if (parent.relativePath !== undefined) pairs.set('relative_path', parent.relativePath);
  if (parent.volumePath !== undefined) pairs.set('volume_path', parent.volumePath);
  if (parent.absolutePath !== undefined) pairs.set('absolute_win32_path', parent.absolutePath);
  return {
    guid: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
    bytes: encodeParentLocator(pairs),
    isVirtualDisk: false,
    isRequired: true,
  };
}

function metadataOf(description: VhdxDescription, blockSize: number, sectorSize: number): Uint8Array {
  const flags = (description.fixed ? 1 : 0) | (description.parent ? 2 : 0);
  const disk = { isVirtualDisk: true, isRequired: true };
  const id = description.virtualDiskId ?? '99999999-8888-4777-8666-555555555555';
  const items: NewItem[] = [
    {
      guid: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
      bytes: Buffer.concat([u32(blockSize), u32(flags)]),
      isVirtualDisk: false,
      isRequired: true,
    },
    { guid: '2fa54224-cd1b-4876-b211-5dbed83bf4b8', bytes: u64(description.virtualSize), ...disk },
    { guid: 'beca12ab-b2e6-4523-93ef-c309e000c746', bytes: guidToMixedEndian(id), ...disk },
    { guid: '8141bf1d-a96f-4709-ba47-f233a8faab5f', bytes: u32(sectorSize), ...disk },
    {
      guid: 'cda348c7-445d-4471-9cc9-e9885251c556',
      bytes: u32(description.physicalSectorSize ?? 4096),
      ...disk,
    },
  ];
  if (description.parent) items.push(locatorItem(description.parent));
  return encodeMetadata(description.items?.(items) ?? items);
}

function placesOf(description: VhdxDescription, blockSize: number, sectorSize: number): VhdxPlaces {
  const ratio = Number((2n ** 23n * BigInt(sectorSize)) / BigInt(blockSize));
  const chunks = Math.ceil(Math.ceil(description.virtualSize / blockSize) / ratio);
  const logLength = description.logLength ?? MIB;
  const bat = 2 * MIB + logLength;
  return {
    log: MIB,
    logLength,
    metadata: MIB + logLength,
    bat,
    batLength: Math.ceil((chunks * (ratio + 1) * 8) / MIB) * MIB,
    entryOf: (block) => bat + 8 * (block + Math.floor(block / ratio)),
    bitmapEntryOf: (chunk) => bat + 8 * (chunk * (ratio + 1) + ratio),
    payload: new Map(),
    bitmaps: new Map(),
  };
}

/** Puts described blocks into the file: payload, BAT entries, sector bitmaps. */
class BlockWriter {
  readonly #file: MemoryFile;
  readonly #places: VhdxPlaces;
  readonly #blockSize: number;
  readonly #sectorSize: number;
  readonly #ratio: number;
  #next: number;

  constructor(file: MemoryFile, places: VhdxPlaces, blockSize: number, sectorSize: number) {
    this.#file = file;
    this.#places = places;
    this.#blockSize = blockSize;
    this.#sectorSize = sectorSize;
    this.#ratio = (2 ** 23 * sectorSize) / blockSize;
    this.#next = places.bat + places.batLength;
  }

  async add(block: BlockDescription, state: number): Promise<void> {
    const hasPayload = state === 6 || state === 7;
    let place = (block.offsetMiB ?? 0) * MIB;
    if (block.offsetMiB === undefined && hasPayload) place = this.#take(this.#blockSize);
    const entry = batEntry(state, place / MIB);
    await this.#file.write(entry, this.#places.entryOf(block.index));
    if (!hasPayload) return;
    this.#places.payload.set(block.index, place);
    for (const { offset, bytes } of block.data ?? []) await this.#file.write(bytes, place + offset);
    if (state === 7) await this.#mark(block);
  }

  #take(length: number): number {
    const place = this.#next;
    this.#next += length;
    return place;
  }

  async finish(): Promise<void> {
    if (this.#file.size() < this.#next) await this.#file.truncate(this.#next);
  }

  async #mark(block: BlockDescription): Promise<void> {
    const sector = this.#sectorSize;
    const touched = (block.data ?? []).map(
      ({ offset, bytes }) =>
        [Math.floor(offset / sector), Math.ceil((offset + bytes.length) / sector)] as const,
    );
    const chunk = Math.floor(block.index / this.#ratio);
    const bitmap = await this.#bitmap(chunk);
    const first = (block.index % this.#ratio) * (this.#blockSize / sector);
    for (const [from, to] of block.present ?? touched) {
      for (let bit = first + from; bit < first + to; bit += 1) {
        const byte = Buffer.alloc(1);
        await this.#file.read(byte, bitmap + Math.floor(bit / 8));
        byte[0] = (byte[0] ?? 0) | (1 << (bit % 8));
        await this.#file.write(byte, bitmap + Math.floor(bit / 8));
      }
    }
  }

  async #bitmap(chunk: number): Promise<number> {
    let place = this.#places.bitmaps.get(chunk);
    if (place === undefined) {
      place = this.#take(MIB);
      this.#places.bitmaps.set(chunk, place);
      await this.#file.truncate(Math.max(this.#file.size(), place + MIB));
      await this.#file.write(batEntry(6, place / MIB), this.#places.bitmapEntryOf(chunk));
    }
    return place;
  }
}

/** Makes the image. Payload that is not described is zero. */
export async function buildVhdx(description: VhdxDescription): Promise<BuiltVhdx> {
  const blockSize = description.blockSize ?? MIB;
  const sectorSize = description.logicalSectorSize ?? 512;
  const places = placesOf(description, blockSize, sectorSize);
  const file = new MemoryFile(new Uint8Array(0), description.name ?? 'built.vhdx');
  await file.truncate(places.bat + places.batLength);
  await file.write(encodeIdentifier(description.creator ?? 'vhdkit test'), 0);
  const regions: RegionEntry[] = [
    {
      guid: '2dc27766-f623-4200-9d64-115e9bfd4a08',
      offset: places.bat,
      length: places.batLength,
      required: true,
    },
    { guid: '8b7ca206-4790-4b9a-b8fe-575f050f886e', offset: places.metadata, length: MIB, required: true },
  ];
  const table = encodeRegionTable(description.regions?.(regions) ?? regions);
  await file.write(table, 192 * 1024);
  await file.write(table, 256 * 1024);
  await file.write(metadataOf(description, blockSize, sectorSize), places.metadata);
  const writer = new BlockWriter(file, places, blockSize, sectorSize);
  for (const block of description.blocks ?? []) {
    await writer.add(block, block.state ?? (description.parent ? 7 : 6));
  }
  await writer.finish();
  await writeHeaders(file, description, places);
  return { file, places };
}

async function writeHeaders(
  file: MemoryFile,
  description: VhdxDescription,
  places: VhdxPlaces,
): Promise<void> {
  for (const [index, offset] of [64 * 1024, 128 * 1024].entries()) {
    const header: VhdxHeader = {
      sequence: BigInt(5 + index),
      fileWriteGuid: '77777777-7777-4777-8777-777777777777',
      dataWriteGuid: description.dataWriteGuid ?? DATA_WRITE_GUID,
      logGuid: description.logGuid ?? NIL_GUID,
      logVersion: 0,
      version: 1,
      logLength: places.logLength,
      logOffset: BigInt(places.log),
    };
    await file.write(encodeHeader(description.header?.(header) ?? header), offset);
  }
}

/** Writes an entry into the log's ring, wrapping at its end. Returns the position behind it. */
export async function putLogEntry(
  built: BuiltVhdx,
  position: number,
  entry: Partial<NewLogEntry> & Pick<NewLogEntry, 'sequence'>,
  spoil?: (bytes: Uint8Array) => void,
): Promise<number> {
  const size = built.file.size();
  const bytes = encodeLogEntry({
    logGuid: LOG_GUID,
    tail: position,
    flushedFileOffset: size,
    lastFileOffset: size,
    updates: [],
    ...entry,
  });
  spoil?.(bytes);
  const { log, logLength } = built.places;
  const first = Math.min(bytes.length, logLength - position);
  await built.file.write(bytes.subarray(0, first), log + position);
  if (first < bytes.length) await built.file.write(bytes.subarray(first), log);
  return (position + bytes.length) % logLength;
}

/** A page of 4096 equal bytes whose first and last byte differ, so that misplaced parts show. */
export function logPage(value: number): Uint8Array {
  const page = new Uint8Array(4096).fill(value);
  page[0] = value ^ 0xff;
  page[4095] = value ^ 0x55;
  return page;
}

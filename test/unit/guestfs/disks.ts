/**
 * Partitioned disks for tests, written straight from the specifications, without the code under test.
 */
import { crc32 } from 'node:zlib';
import type { ReadBytes } from '../../../src/guestfs/partition-table.js';

export const MiB = 1024 * 1024;
export const ENTRIES = 128;
const ENTRY = 128;

export interface PartitionSpec {
  /** Bytes. */
  offset: number;
  length: number;
  name?: string;
}

export interface GptDiskSpec {
  sectorSize: 512 | 4096;
  size: number;
  partitions: readonly PartitionSpec[];
  /** First sector of the disk; default: a protective MBR. */
  mbr?: readonly MbrSpec[];
}

export interface MbrSpec {
  type: number;
  first: number;
  count: number;
  slot?: number;
}

/** Writes entries and signature into a boot record at `offset`. */
export function putMbr(disk: Buffer, entries: readonly MbrSpec[], offset = 0): void {
  for (const [index, { type, first, count, slot = index }] of entries.entries()) {
    const at = offset + 446 + slot * 16;
    disk[at + 4] = type;
    disk.writeUInt32LE(first, at + 8);
    disk.writeUInt32LE(count, at + 12);
  }
  disk.writeUInt16LE(0xaa55, offset + 510);
}

export function sealHeader(header: Buffer): void {
  header.writeUInt32LE(0, 16);
  header.writeUInt32LE(crc32(header.subarray(0, header.readUInt32LE(12))), 16);
}

function putEntry(array: Buffer, index: number, spec: PartitionSpec, sectorSize: number): void {
  const at = index * ENTRY;
  array.fill(0xa0 + index, at, at + 16);
  array.fill(0xb0 + index, at + 16, at + 32);
  array.writeBigUInt64LE(BigInt(spec.offset / sectorSize), at + 32);
  array.writeBigUInt64LE(BigInt((spec.offset + spec.length) / sectorSize - 1), at + 40);
  array.writeBigUInt64LE(4n, at + 48);
  array.write(spec.name ?? `part${index + 1}`, at + 56, 'utf16le');
}

/** A disk with both copies of a GPT; where there are no tables, every sector holds its number. */
export function gptDisk({ sectorSize, size, partitions, mbr }: GptDiskSpec): Buffer {
  const disk = numbered(size);
  const sectors = size / sectorSize;
  const arraySectors = (ENTRIES * ENTRY) / sectorSize;
  disk.fill(0, 0, (2 + arraySectors) * sectorSize);
  disk.fill(0, (sectors - 1 - arraySectors) * sectorSize);
  putMbr(disk, mbr ?? [{ type: 0xee, first: 1, count: sectors - 1 }]);
  const array = Buffer.alloc(ENTRIES * ENTRY);
  for (const [index, spec] of partitions.entries()) putEntry(array, index, spec, sectorSize);
  const copies = [
    { my: 1, other: sectors - 1, entries: 2 },
    { my: sectors - 1, other: 1, entries: sectors - 1 - arraySectors },
  ];
  for (const { my, other, entries } of copies) {
    array.copy(disk, entries * sectorSize);
    const header = disk.subarray(my * sectorSize, (my + 1) * sectorSize);
    header.write('EFI PART', 'latin1');
    header.writeUInt32LE(0x10000, 8);
    header.writeUInt32LE(92, 12);
    header.writeBigUInt64LE(BigInt(my), 24);
    header.writeBigUInt64LE(BigInt(other), 32);
    header.writeBigUInt64LE(BigInt(2 + arraySectors), 40);
    header.writeBigUInt64LE(BigInt(sectors - 2 - arraySectors), 48);
    header.write('the disk guid 16', 56, 'latin1');
    header.writeBigUInt64LE(BigInt(entries), 72);
    header.writeUInt32LE(ENTRIES, 80);
    header.writeUInt32LE(ENTRY, 84);
    header.writeUInt32LE(crc32(array), 88);
    sealHeader(header);
  }
  return disk;
}

/** A disk of which each 512 bytes hold their number, all over. */
export function numbered(size: number): Buffer {
  const disk = Buffer.alloc(size);
  for (let at = 0; at < size; at += 512) disk.fill(`#${at / 512};`, at, at + 512);
  return disk;
}

/** Reads the disk and fails on whatever is outside it or larger than any table. */
export function reader(disk: Uint8Array): ReadBytes {
  return async (offset, length) => {
    if (offset < 0 || length < 0 || offset + length > disk.length) {
      throw new Error(`read outside the disk: ${offset}+${length} of ${disk.length}`);
    }
    if (length > 4 * MiB) throw new Error(`read of ${length} bytes`);
    return Uint8Array.from(disk.subarray(offset, offset + length));
  };
}

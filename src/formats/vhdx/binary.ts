/**
 * Little-endian fields, checksums and exact reads, as all VHDX structures need them.
 *
 * Invariant: a u64 from a file becomes a number only when it is a safe integer; otherwise callers get
 * undefined and have to refuse. Checksums are verified without touching the bytes.
 */
import { toSafeNumber } from '../../base/bytes.js';
import { crc32c } from '../../base/crc32c.js';
import { guidFromMixedEndian, guidToMixedEndian } from '../../base/guid.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { vhdxCorrupt } from './defects.js';

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A u64 as a number; undefined above 2^53 − 1. */
export function getU64(view: DataView, at: number): number | undefined {
  return toSafeNumber(view.getBigUint64(at, true));
}

export function setU64(view: DataView, at: number, value: number | bigint): void {
  view.setBigUint64(at, BigInt(value), true);
}

export function getGuid(bytes: Uint8Array, at: number): string {
  return guidFromMixedEndian(bytes.subarray(at, at + 16));
}

export function setGuid(bytes: Uint8Array, at: number, guid: string): void {
  bytes.set(guidToMixedEndian(guid), at);
}

export function setAscii(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i += 1) bytes[at + i] = text.charCodeAt(i);
}

const FOUR_ZEROS = new Uint8Array(4);

/** CRC-32C with the four checksum bytes at `at` counted as zero. */
export function checksumWithout(bytes: Uint8Array, at: number): number {
  const before = crc32c(bytes.subarray(0, at));
  return crc32c(bytes.subarray(at + 4), crc32c(FOUR_ZEROS, before));
}

/** Stores the checksum of a finished structure into its four bytes at `at`. */
export function sealChecksum(bytes: Uint8Array, at: number): Uint8Array {
  viewOf(bytes).setUint32(at, checksumWithout(bytes, at), true);
  return bytes;
}

/**
 * Reads exactly `length` bytes (bounded by the caller before the call).
 * @throws IMAGE_CORRUPT (VHDX_TRUNCATED) when the file ends earlier
 */
export async function readExact(
  file: RandomAccessFile,
  offset: number,
  length: number,
  what: string,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const count = await file.read(bytes, offset);
  if (count < length) throw vhdxCorrupt('VHDX_TRUNCATED', `the file ends inside ${what}`, file.path, offset);
  return bytes;
}

/** UTF-16LE text of the bytes (an even number of them), without terminators. */
export function utf16(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf16le');
}

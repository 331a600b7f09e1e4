/**
 * The two checksums of ext4 metadata. Pure.
 *
 * CRC-32C as ext4 uses it has no final inversion: what is stored is the register itself. CRC-16 (reflected
 * polynomial 0xA001) guards group descriptors of file systems with `uninit_bg` and without `metadata_csum`.
 * Source: Linux, Documentation/filesystems/ext4, "Checksums".
 */
import { crc32c } from '../../base/crc32c.js';

const CRC16_POLYNOMIAL = 0xa001;

/** Goes on with a CRC-32C register over the bytes and returns the register. */
export function extCrc32c(register: number, bytes: Uint8Array): number {
  // Both ends of the ordinary function invert; inverting again undoes that.
  return ~crc32c(bytes, ~register >>> 0) >>> 0;
}

/** Goes on with a CRC-16 register over the bytes. */
export function extCrc16(register: number, bytes: Uint8Array): number {
  let crc = register;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ CRC16_POLYNOMIAL : crc >>> 1;
  }
  return crc;
}

/**
 * The checksum of VHD footers and dynamic headers.
 *
 * Invariant: computed over the raw bytes as they are in the file, reserved ones included, and never by
 * changing the buffer: what is verified may be written back later.
 */

/**
 * Ones' complement of the sum of all bytes, the four checksum bytes counted as zero.
 * Source: VHD specification 1.0, "Checksum" (Hard Disk Footer Format) and "Computing the Checksum".
 */
export function vhdChecksum(bytes: Uint8Array, checksumAt: number): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  for (const byte of bytes.subarray(checksumAt, checksumAt + 4)) sum -= byte;
  return ~sum >>> 0;
}

/** The stored checksum, to be compared with `vhdChecksum`. */
export function storedChecksum(bytes: Uint8Array, checksumAt: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(checksumAt);
}

/** Puts the right checksum into a structure that is about to be written. */
export function sealChecksum(bytes: Uint8Array, checksumAt: number): void {
  const value = vhdChecksum(bytes, checksumAt);
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).setUint32(checksumAt, value);
}

/**
 * What tests of auxiliary tokens share: sums by their definitions, and tokens with their lists.
 *
 * Nothing here uses the code under test to say what is right.
 */
import { createHash } from 'node:crypto';
import { CHECKSUM_CHUNK } from '../../src/offload/auxiliary/auxiliary-codec.js';
import type { Grid } from '../../src/offload/auxiliary/block-grid.js';

/** CRC-32C bit by bit, big-endian: slow, and by the definition. */
export function crcByDefinition(bytes: Uint8Array): Buffer {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(~crc >>> 0);
  return sum;
}

export function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** The blocks of data that lies `phase` bytes behind the start of a block. */
export function cut(data: Uint8Array, blockSize: number, phase = 0): Uint8Array[] {
  const blocks: Uint8Array[] = [];
  for (let at = 0; at < data.length; ) {
    const end = Math.min(data.length, at + blockSize - ((phase + at) % blockSize));
    blocks.push(data.subarray(at, end));
    at = end;
  }
  return blocks;
}

export function checksumGrid(length: number): Grid {
  return { length, blockSize: CHECKSUM_CHUNK, phase: 0 };
}

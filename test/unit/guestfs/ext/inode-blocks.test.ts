/** Maps of inodes that loop, point outside or never end. */
import { describe, expect, it } from 'vitest';
import { extCrc16, extCrc32c } from '../../../../src/guestfs/ext/checksum.js';
import { inodeBlocks } from '../../../../src/guestfs/ext/inode-blocks.js';
import { decodeSuperblock, type Superblock } from '../../../../src/guestfs/ext/superblock.js';
import { reasonOf } from '../../../../src/guestfs/inconsistent.js';

const BLOCK = 1024;

function superblock(): Superblock {
  const bytes = Buffer.alloc(1024);
  for (const [at, value] of [
    [0, 128],
    [4, 8192],
    [0x14, 1],
    [0x20, 8192],
    [0x24, 8192],
    [0x28, 128],
  ] as const)
    bytes.writeUInt32LE(value, at);
  bytes.writeUInt16LE(0xef53, 0x38);
  bytes.writeUInt16LE(1, 0x3a);
  const sb = decodeSuperblock(bytes, 8192 * BLOCK);
  if ('refusal' in sb) throw new Error(sb.refusal);
  return sb;
}

function inode(flags: number, put: (map: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(128);
  bytes.writeUInt16LE(1, 26);
  bytes.writeUInt32LE(flags, 32);
  put(bytes.subarray(40, 100));
  return bytes;
}

const EXTENTS = 0x80000;

function extentHeader(at: Buffer, entries: number, depth: number): void {
  at.writeUInt16LE(0xf30a, 0);
  at.writeUInt16LE(entries, 2);
  at.writeUInt16LE(depth, 6);
}

async function outcome(bytes: Buffer, block: (number: number) => Buffer): Promise<unknown> {
  try {
    return (await inodeBlocks(superblock(), bytes, async (first) => block(first))).runs;
  } catch (error) {
    return reasonOf(error) ?? error;
  }
}

describe('the blocks of an inode', () => {
  it('are those of its extents, with the blocks that map them', async () => {
    const bytes = inode(EXTENTS, (map) => {
      extentHeader(map, 1, 1);
      map.writeUInt32LE(50, 12 + 4);
    });
    const leaf = Buffer.alloc(BLOCK);
    extentHeader(leaf, 1, 0);
    leaf.writeUInt16LE(10, 12 + 4);
    leaf.writeUInt32LE(200, 12 + 8);
    expect(await outcome(bytes, () => leaf)).toEqual([
      { first: 50, count: 1 },
      { first: 200, count: 10 },
    ]);
  });

  it.each<[string, number, (map: Buffer) => void, (number: number) => Buffer]>([
    [
      'the map of its journal is damaged',
      EXTENTS,
      (map) => {
        extentHeader(map, 1, 1);
        map.writeUInt32LE(50, 12 + 4);
      },
      // A block that says it is as deep as its parent, and points at itself.
      () => {
        const node = Buffer.alloc(BLOCK);
        extentHeader(node, 1, 1);
        node.writeUInt32LE(50, 12 + 4);
        return node;
      },
    ],
    [
      'its journal is in too many pieces',
      0,
      (map) => map.writeUInt32LE(60, 14 * 4),
      () => Buffer.alloc(BLOCK, Uint8Array.of(60, 0, 0, 0)),
    ],
    [
      'its journal lies outside the file system (block 9000)',
      0,
      (map) => map.writeUInt32LE(9000, 0),
      () => Buffer.alloc(BLOCK),
    ],
  ])('are refused: %s', async (reason, flags, put, block) => {
    expect(await outcome(inode(flags, put), block)).toBe(reason);
  });
});

it('the checksums are the published ones, without final inversion', () => {
  const digits = Buffer.from('123456789');
  expect(~extCrc32c(0xffffffff, digits) >>> 0).toBe(0xe3069283);
  expect(extCrc32c(extCrc32c(0xffffffff, digits.subarray(0, 4)), digits.subarray(4))).toBe(
    extCrc32c(0xffffffff, digits),
  );
  // CRC-16/MODBUS.
  expect(extCrc16(0xffff, digits)).toBe(0x4b37);
});

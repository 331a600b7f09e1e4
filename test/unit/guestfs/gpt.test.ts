import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  arrayCrc,
  decodeGptArray,
  decodeGptHeader,
  encodeGptHeader,
  type GptHeader,
  isDefect,
  MAX_ARRAY_BYTES,
  moveGptEntries,
} from '../../../src/guestfs/gpt.js';
import { gptDisk, MiB, sealHeader } from './disks.js';

const DISK = gptDisk({
  sectorSize: 512,
  size: 8 * MiB,
  partitions: [
    { offset: MiB, length: MiB, name: 'EFI system partition' },
    { offset: 3 * MiB, length: 2 * MiB, name: 'näme' },
  ],
});
const HEADER = DISK.subarray(512, 1024);
const ARRAY = DISK.subarray(1024, 1024 + 16384);

function good(): GptHeader {
  const header = decodeGptHeader(HEADER, 1);
  if (isDefect(header)) throw new Error(header.defect);
  return header;
}

/** The header with fields changed and a checksum that fits. */
function altered(change: (header: Buffer) => void): Buffer {
  const header = Buffer.from(HEADER);
  change(header);
  sealHeader(header);
  return header;
}

const lba = fc.integer({ min: 40, max: 2 ** 38 });
const anyHeader = fc.record({
  myLba: fc.constant(1),
  alternateLba: lba.map((value) => value + 2 ** 39),
  firstUsable: lba,
  lastUsable: lba.map((value) => value + 2 ** 38),
  diskGuid: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  entriesLba: fc.constant(2),
  count: fc.constantFrom(1, 4, 128),
  entrySize: fc.constantFrom(128),
  entriesCrc: fc.nat(),
});

describe('GPT headers', () => {
  it('are read as the specification has them', () => {
    expect(good()).toMatchObject({
      myLba: 1,
      alternateLba: 16383,
      firstUsable: 34,
      lastUsable: 16350,
      entriesLba: 2,
      count: 128,
      entrySize: 128,
    });
    expect(decodeGptArray(ARRAY, good())).toMatchObject([
      { number: 1, name: 'EFI system partition', first: 2048, last: 4095 },
      { number: 2, name: 'näme', first: 6144, last: 10239 },
    ]);
  });

  it('are written byte for byte as they were read', () => {
    expect(Buffer.from(encodeGptHeader(good(), 512)).equals(HEADER)).toBe(true);
  });

  it('survive encoding and decoding, in sectors of either size', () => {
    fc.assert(
      fc.property(anyHeader, fc.constantFrom(512, 4096), (header, sectorSize) => {
        const sector = encodeGptHeader(header, sectorSize);
        expect(sector.length).toBe(sectorSize);
        expect(decodeGptHeader(sector, 1)).toEqual(header);
      }),
    );
  });

  it('are refused with any one bit flipped', () => {
    for (let bit = 0; bit < 92 * 8; bit += 1) {
      const header = Buffer.from(HEADER);
      header[bit >> 3] = (header[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(decodeGptHeader(header, 1), `bit ${bit}`).toHaveProperty('defect');
    }
  });

  it.each<[string, string, (header: Buffer) => void]>([
    ['a size above the sector', 'says that it has', (h) => h.writeUInt32LE(513, 12)],
    ['another major revision', 'unknown revision', (h) => h.writeUInt32LE(0x20000, 8)],
    ['the place of another sector', 'belongs to sector 7', (h) => h.writeBigUInt64LE(7n, 24)],
    ['no entries', '0 entries', (h) => h.writeUInt32LE(0, 80)],
    ['four billion entries', '4294967295 entries', (h) => h.writeUInt32LE(0xffffffff, 80)],
    ['small entries', 'entries of 64 bytes', (h) => h.writeUInt32LE(64, 84)],
    ['entries of no power of two', 'entries of 384 bytes', (h) => h.writeUInt32LE(384, 84)],
    ['huge entries', 'entries of 2147483648', (h) => h.writeUInt32LE(0x80000000, 84)],
    ['itself as its copy', 'itself as its copy', (h) => h.writeBigUInt64LE(1n, 32)],
    ['usable sectors backwards', 'no usable sectors', (h) => h.writeBigUInt64LE(33n, 48)],
    ['usable sectors over itself', 'no usable sectors', (h) => h.writeBigUInt64LE(1n, 40)],
    ['an absurd sector number', 'no disk has', (h) => h.writeBigUInt64LE(2n ** 63n, 48)],
    ['an inexact sector number', 'no disk has', (h) => h.writeBigUInt64LE(2n ** 45n, 32)],
    ['entries over the header', 'over a header', (h) => h.writeBigUInt64LE(1n, 72)],
    ['entries over the MBR', 'over a header', (h) => h.writeBigUInt64LE(0n, 72)],
    ['entries among partitions', 'among the partitions', (h) => h.writeBigUInt64LE(100n, 72)],
  ])('are refused with %s', (_name, words, change) => {
    const result = decodeGptHeader(altered(change), 1);
    expect(isDefect(result) ? result.defect : 'accepted').toContain(words);
  });

  it('take no bytes for an answer and never ask for more than the largest array', () => {
    const bytes = fc.uint8Array({ minLength: 0, maxLength: 600 });
    const edits = fc.array(fc.tuple(fc.integer({ min: 8, max: 91 }), fc.nat(255)), { maxLength: 8 });
    fc.assert(
      fc.property(bytes, edits, (random, changes) => {
        expect(decodeGptHeader(random, 1)).toHaveProperty('defect');
        const result = decodeGptHeader(
          altered((header) => {
            for (const [at, value] of changes) if (at < 12 || at >= 16) header[at] = value;
          }),
          1,
        );
        if (!isDefect(result)) expect(result.count * result.entrySize).toBeLessThanOrEqual(MAX_ARRAY_BYTES);
      }),
      { numRuns: 500 },
    );
  });
});

describe('GPT entries', () => {
  /** The array with a partition's sectors changed, and a header that fits. */
  function withPartition(index: number, first: bigint, last: bigint) {
    const array = Buffer.from(ARRAY);
    array.writeBigUInt64LE(first, index * 128 + 32);
    array.writeBigUInt64LE(last, index * 128 + 40);
    return decodeGptArray(array, { ...good(), entriesCrc: arrayCrc(array) });
  }

  it.each([
    ['in front of the usable sectors', 0, 33n, 100n, 'outside the usable'],
    ['behind the usable sectors', 0, 20n * 100n, 16351n, 'outside the usable'],
    ['backwards', 0, 200n, 199n, 'outside the usable'],
    ['beyond all numbers', 0, 200n, 2n ** 64n - 1n, 'outside the usable'],
    ['over each other', 0, 2048n, 6144n, 'overlap (1 and 2)'],
  ] as const)('are refused %s', (_name, index, first, last, words) => {
    const result = withPartition(index, first, last);
    expect(isDefect(result) ? result.defect : 'accepted').toContain(words);
  });

  it('are refused when a bit of the array is flipped', () => {
    fc.assert(
      fc.property(fc.nat(ARRAY.length * 8 - 1), (bit) => {
        const array = Buffer.from(ARRAY);
        array[bit >> 3] = (array[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(decodeGptArray(array, good())).toHaveProperty('defect');
      }),
    );
  });

  it('are moved without changing anything but their sectors', () => {
    const moved = Buffer.from(moveGptEntries(ARRAY, 128, [{ number: 2, first: 5, last: 2 ** 40 }]));
    expect(moved.readBigUInt64LE(128 + 32)).toBe(5n);
    expect(moved.readBigUInt64LE(128 + 40)).toBe(2n ** 40n);
    moved.fill(0, 128 + 32, 128 + 48);
    const expected = Buffer.from(ARRAY);
    expected.fill(0, 128 + 32, 128 + 48);
    expect(moved.equals(expected)).toBe(true);
  });
});

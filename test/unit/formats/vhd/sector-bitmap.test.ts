import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bitmapBytes } from '../../../../src/formats/vhd/dynamic-header.js';
import { bitmapRuns, fullBitmap, parseBitmap, sectorsOf } from '../../../../src/formats/vhd/sector-bitmap.js';

const KiB = 1024;
const MiB = 1024 * KiB;

describe('sector bitmaps', () => {
  it.each([
    [512, 512],
    [4 * KiB, 512],
    [512 * KiB, 512],
    [2 * MiB, 512],
    [4 * MiB, 1024],
    [256 * MiB, 64 * KiB],
  ])('a block of %d bytes has a bitmap of %d', (blockSize, bytes) => {
    expect(bitmapBytes(blockSize)).toBe(bytes);
  });

  it('counts the most significant bit first', () => {
    const bytes = Uint8Array.from([0b1000_0000, 0b0000_0011, 0xff]);
    expect([...bitmapRuns(bytes, 0, 24)]).toEqual([
      { start: 0, end: 1, present: true },
      { start: 1, end: 14, present: false },
      { start: 14, end: 24, present: true },
    ]);
  });

  it('answers parts that begin and end within a run', () => {
    const bytes = Uint8Array.from([0x00, 0xff, 0x0f]);
    expect([...bitmapRuns(bytes, 5, 19)]).toEqual([
      { start: 5, end: 8, present: false },
      { start: 8, end: 16, present: true },
      { start: 16, end: 19, present: false },
    ]);
    expect([...bitmapRuns('full', 3, 9)]).toEqual([{ start: 3, end: 9, present: true }]);
    expect([...bitmapRuns('full', 3, 3)]).toEqual([]);
  });

  it('agrees with a bit-by-bit model', () => {
    const range = fc
      .tuple(fc.nat(160), fc.nat(160))
      .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);
    const byte = fc.oneof(fc.constantFrom(0, 0xff), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(byte, { minLength: 20, maxLength: 20 }), range, (bytes, [start, end]) => {
        const map = Uint8Array.from(bytes);
        const seen: boolean[] = [];
        let before: boolean | undefined;
        for (const run of bitmapRuns(map, start, end)) {
          expect(run.present).not.toBe(before);
          expect(run.start).toBe(start + seen.length);
          for (let sector = run.start; sector < run.end; sector += 1) seen.push(run.present);
          before = run.present;
        }
        const model = Array.from({ length: end - start }, (_, index) => {
          const bits = (bytes[Math.floor((start + index) / 8)] ?? 0).toString(2).padStart(8, '0');
          return bits[(start + index) % 8] === '1';
        });
        expect(seen).toEqual(model);
      }),
    );
  });

  it('recognises full bitmaps by the bits that count', () => {
    const short = new Uint8Array(512);
    short[0] = 0xff;
    expect(parseBitmap(short, 8)).toBe('full');
    expect(parseBitmap(short, 9)).toBe(short);
    const gap = new Uint8Array(512).fill(0xff);
    gap[511] = 0xfe;
    expect(parseBitmap(gap, 4096)).toBe(gap);
    expect(parseBitmap(new Uint8Array(512), 4096)).not.toBe('full');
  });

  it.each([
    [2 * MiB, 'ff'.repeat(512)],
    [512 * KiB, 'ff'.repeat(128) + '00'.repeat(384)],
    [4 * KiB, `ff${'00'.repeat(511)}`],
    [1024, `c0${'00'.repeat(511)}`],
  ])('writes every bit of a block of %d bytes and no more', (blockSize, hex) => {
    const bytes = fullBitmap(blockSize, 512);
    expect(Buffer.from(bytes).toString('hex')).toBe(hex);
    expect(parseBitmap(bytes, sectorsOf(blockSize))).toBe('full');
  });
});

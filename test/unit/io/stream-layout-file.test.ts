/** LayoutFile against a plain file in memory, and what it holds. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryFile } from '../../../src/io/memory-file.js';
import { LayoutFile } from '../../../src/io/stream-layout-file.js';

const KiB = 1024;

interface Step {
  /** Distance to the end of the write before. */
  gap: number;
  length: number;
  fill: number;
  /** Writes the same again this many times at equal distances. */
  again: number;
}

const step = fc.record<Step>({
  gap: fc.integer({ min: 0, max: 200 * KiB }),
  length: fc.constantFrom(0, 1, 512, 4 * KiB, 64 * KiB, 100 * KiB),
  fill: fc.integer({ min: 1, max: 3 }),
  again: fc.integer({ min: 0, max: 4 }),
});

async function apply(steps: readonly Step[], files: readonly (LayoutFile | MemoryFile)[]): Promise<number> {
  let end = 0;
  for (const { gap, length, fill, again } of steps) {
    for (let turn = 0; turn <= again; turn += 1) {
      const bytes = new Uint8Array(length).fill(fill);
      for (const file of files) await file.write(bytes, end + gap);
      // The file must have kept its own copy.
      bytes.fill(0xee);
      end += gap + length;
    }
  }
  return end;
}

describe('a layout file', () => {
  it('reads what a plain file reads, whatever the ranges', async () => {
    const range = fc.record({
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.integer({ min: 1, max: 300 * KiB }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { maxLength: 12 }),
        fc.array(range, { maxLength: 8 }),
        async (steps, ranges) => {
          const layout = new LayoutFile('layout');
          const plain = new MemoryFile();
          const end = await apply(steps, [layout, plain]);
          expect(layout.size()).toBe(plain.size());
          for (const { at, length } of ranges) {
            const offset = Math.floor(at * end);
            const [a, b] = [new Uint8Array(length).fill(0x55), new Uint8Array(length).fill(0x55)];
            expect(await layout.read(a, offset)).toBe(await plain.read(b, offset));
            expect(Buffer.compare(a, b)).toBe(0);
          }
        },
      ),
    );
  });

  it('never calls stored bytes a hole', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const layout = new LayoutFile('layout');
        const plain = new MemoryFile();
        const end = await apply(steps, [layout, plain]);
        const bytes = plain.bytes();
        for (let at = 0; at < end; ) {
          const run = layout.nextData(at, end);
          const hole = bytes.subarray(at, run ? run.offset : end);
          expect(hole.every((byte) => byte === 0)).toBe(true);
          if (!run) break;
          expect(run.length).toBeGreaterThan(0);
          expect(run.offset + run.length).toBeLessThanOrEqual(end);
          at = run.offset + run.length;
        }
      }),
    );
  });

  it('keeps bytes that are written again and again once', async () => {
    const layout = new LayoutFile('layout');
    const stride = 2 * KiB * KiB + 4 * KiB;
    const bitmap = new Uint8Array(4 * KiB).fill(0xff);
    for (let block = 0; block < 100_000; block += 1) await layout.write(bitmap, KiB + block * stride);
    expect(await layout.allocatedBytes()).toBeLessThanOrEqual(128 * KiB);
    const buffer = new Uint8Array(4 * KiB);
    await layout.read(buffer, KiB + 99_998 * stride);
    expect(buffer.every((byte) => byte === 0xff)).toBe(true);
    expect(layout.nextData(2 * KiB + 4 * KiB + 77 * stride, 2 ** 40)).toEqual({
      offset: KiB + 78 * stride,
      length: 4 * KiB,
    });
  });

  it('refuses to overwrite what it keeps once', async () => {
    const layout = new LayoutFile('layout');
    const bytes = new Uint8Array(512).fill(1);
    for (const offset of [0, 4096, 8192]) await layout.write(bytes, offset);
    await expect(layout.write(new Uint8Array(8).fill(2), 8200)).rejects.toThrow(/written once/);
    await expect(layout.zero(4000, 200)).rejects.toThrow(/written once/);
    await layout.write(new Uint8Array(8).fill(2), 6000);
  });
});

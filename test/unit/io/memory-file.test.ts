import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryFile } from '../../../src/io/memory-file.js';

const SPAN = 200_000;
const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), offset: fc.nat(SPAN), length: fc.nat(5000) }),
  fc.record({ kind: fc.constant('zero' as const), offset: fc.nat(SPAN), length: fc.nat(150_000) }),
  fc.record({ kind: fc.constant('truncate' as const), offset: fc.nat(SPAN * 2), length: fc.constant(0) }),
);

describe('MemoryFile', () => {
  it('behaves like an array of bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const file = new MemoryFile();
        const model = Buffer.alloc(SPAN * 3);
        let size = 0;
        for (const [index, { kind, offset, length }] of steps.entries()) {
          if (kind === 'truncate') {
            await file.truncate(offset);
            model.fill(0, offset);
            size = offset;
            continue;
          }
          const value = kind === 'write' ? index + 1 : 0;
          if (kind === 'write') await file.write(new Uint8Array(length).fill(value), offset);
          else await file.zero(offset, length);
          model.fill(value, offset, offset + length);
          size = Math.max(size, offset + length);
        }
        expect(file.size()).toBe(size);
        expect(Buffer.from(file.bytes()).equals(model.subarray(0, size))).toBe(true);
        // Holes never hide data.
        for (let at = 0; at < size; ) {
          const run = file.nextData(at, size);
          const hole = model.subarray(at, run ? run.offset : size);
          expect(hole.every((byte) => byte === 0)).toBe(true);
          at = run ? run.offset + run.length : size;
        }
      }),
    );
  });

  it('holds terabytes of nothing', async () => {
    const file = new MemoryFile();
    await file.truncate(2 ** 46);
    await file.write(new Uint8Array([1]), 2 ** 45);
    expect(file.nextData(0, 2 ** 46)).toMatchObject({ offset: 2 ** 45 });
    expect(await file.allocatedBytes()).toBe(64 * 1024);
  });

  it('answers a short count only at its end', async () => {
    const file = new MemoryFile(new Uint8Array([1, 2, 3]));
    const buffer = new Uint8Array(8).fill(9);
    expect(await file.read(buffer, 1)).toBe(2);
    expect([...buffer.subarray(0, 3)]).toEqual([2, 3, 9]);
    expect(await file.read(buffer, 50)).toBe(0);
  });

  it('refuses writing when it is read-only, and everything after closing', async () => {
    const file = new MemoryFile();
    file.writable = false;
    await expect(file.write(new Uint8Array(1), 0)).rejects.toMatchObject({ code: 'READ_ONLY' });
    await file.close();
    await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
  });
});

/**
 * Whatever the extents, the target, the choice of provider and the zero policy: the target has the same
 * content as a plain copy, and every byte is counted once.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../src/base/random.js';
import type { Extent } from '../../../src/block/extent.js';
import type { MemoryFile } from '../../../src/io/memory-file.js';
import { BufferPool } from '../../../src/offload/buffer-pool.js';
import { bufferedProvider } from '../../../src/offload/providers/buffered-provider.js';
import { zeroProvider } from '../../../src/offload/providers/zero-provider.js';
import { TokenManager } from '../../../src/offload/token-manager.js';
import { transfer } from '../../../src/offload/transfer-session.js';
import type { ProviderChoice, ZeroPolicy } from '../../../src/offload/transfer-types.js';
import { CheckingTarget, fakeProvider, SlowFile } from '../../support/offload-fakes.js';

const KiB = 1024;
const SOURCE_SIZE = 1024 * KiB;

/** Two files of data, zeros and holes. The second is shifted by a sector against the first. */
async function sources(): Promise<MemoryFile[]> {
  return Promise.all(
    [1, 2].map(async (seed) => {
      const file = new SlowFile(new Uint8Array(0), `source ${seed}`);
      for (let at = 0; at < SOURCE_SIZE; at += 64 * KiB) {
        const kind = (at / (64 * KiB) + seed) % 4;
        // Holes, stored zeros, data, and data with zeros in it.
        if (kind === 0) continue;
        const bytes = new Uint8Array(64 * KiB);
        if (kind >= 2) for (let i = 0; i < bytes.length; i += 1) bytes[i] = (i * seed + at / 512) % 251;
        if (kind === 3) bytes.fill(0, 4096, 32 * KiB);
        await file.write(bytes, at);
      }
      await file.truncate(SOURCE_SIZE);
      return file;
    }),
  );
}

const pieces = fc.array(
  fc.record({
    state: fc.constantFrom('zero', 'data', 'data', 'data'),
    file: fc.nat(1),
    /** In sectors; mostly short, sometimes long, so that all sizes meet. */
    length: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 700 })),
    shift: fc.constantFrom(0, 0, 1, 8, 37),
  }),
  { minLength: 1, maxLength: 30 },
);

const cases = fc.record({
  pieces,
  blockSize: fc.constantFrom(undefined, 4 * KiB, 64 * KiB, 512 * KiB),
  unwrittenIsZero: fc.boolean(),
  shift: fc.constantFrom(0, 512, 4096),
  provider: fc.constantFrom<ProviderChoice>('auto', 'kernel', 'buffered', 'skip-1'),
  zeros: fc.constantFrom<ZeroPolicy>('auto', 'scan', 'holes'),
  start: fc.constantFrom(0, 512, 9 * 512, 200 * KiB),
  failFrom: fc.constantFrom(undefined, undefined, 2),
  shorten: fc.constantFrom(undefined, 1, 4096, 10_000),
});

describe('transfer', () => {
  it('copies any extents to any target by any means', async () => {
    const files = await sources();
    await fc.assert(
      fc.asyncProperty(cases, async (test) => {
        const extents: Extent[] = [];
        let offset = test.start;
        for (const { state, file, length, shift } of test.pieces) {
          const bytes = length * 512;
          // Aligned with the disk for shift 0; may reach past the end of the file.
          const fileOffset = ((offset % SOURCE_SIZE) + shift * 512) % SOURCE_SIZE;
          if (state === 'zero') extents.push({ state, offset, length: bytes });
          else
            extents.push({
              state: 'data',
              offset,
              length: bytes,
              file: files[file] as MemoryFile,
              fileOffset,
            });
          offset += bytes;
        }
        const size = offset + 512;
        const expected = new Uint8Array(size);
        // A flat target that is not zero keeps its bytes where no extent is.
        const flat = test.blockSize === undefined && !test.unwrittenIsZero;
        if (flat) expected.fill(0xaa);
        for (const extent of extents) {
          const part = expected.subarray(extent.offset, extent.offset + extent.length);
          part.fill(0);
          if (extent.state === 'data') await extent.file.read(part, extent.fileOffset);
        }

        const target = new CheckingTarget({ ...targetOptions(test), size });
        if (flat) await target.soil();
        const manager = new TokenManager({ clock: { now: () => 0 }, random: systemRandom });
        const { shorten, failFrom } = test;
        const reflink = fakeProvider(manager, 'reflink', {
          alignment: 4096,
          ...(shorten && shorten >= 4096 ? { shorten: (n: number) => Math.min(n, 4096) } : {}),
          ...(failFrom === undefined ? {} : { failFrom }),
        });
        const kernel = fakeProvider(manager, 'kernel', {
          ...(shorten ? { shorten: (n: number) => Math.min(n, Math.max(shorten, n >> 3)) } : {}),
        });
        const providers = [
          reflink,
          kernel,
          zeroProvider(manager),
          bufferedProvider(manager, new BufferPool(64 * KiB, 4)),
        ];
        const reports: number[] = [];
        const moved = await transfer(list(extents), target, {
          provider: test.provider,
          zeros: test.zeros,
          manager,
          providers,
          onProgress: (done) => reports.push(done),
        });

        expect(Buffer.compare(await target.content(), expected)).toBe(0);
        const total = extents.reduce((sum, extent) => sum + extent.length, 0);
        expect(moved.shared + moved.kernelCopied + moved.buffered + moved.zeroed).toBe(total);
        expect(reports).toEqual([...reports].sort((a, b) => a - b));
        expect(reports.at(-1)).toBe(total);
        const starts = target.prepared.map((range) => range.offset);
        expect(starts).toEqual([...starts].sort((a, b) => a - b));
        expect(target.committed).toBe(target.prepared.length);
        expect(target.aborted).toBe(0);
        if (test.provider === 'buffered') expect(reflink.asked + kernel.asked).toBe(0);
        if (test.provider === 'skip-1') expect(moved.shared).toBe(0);
        if (test.provider === 'kernel') expect(moved.shared + moved.buffered).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});

function targetOptions(test: { blockSize: number | undefined; unwrittenIsZero: boolean; shift: number }) {
  const { blockSize, unwrittenIsZero, shift } = test;
  return { unwrittenIsZero, shift, ...(blockSize === undefined ? {} : { blockSize }) };
}

async function* list(extents: Extent[]): AsyncGenerator<Extent> {
  yield* extents;
}

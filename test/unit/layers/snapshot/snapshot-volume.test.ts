import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SnapshotLayer } from '../../../../src/layers/snapshot/catalogue.js';
import { SnapshotView } from '../../../../src/layers/snapshot/snapshot-view.js';
import { type FakeVolume, type FakeWriteOnce, fakeVolume } from '../../../support/snapshot-fakes.js';

const CHUNK = 4096;
/** The last chunk is short. */
const SIZE = 9 * CHUNK + 512;

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed * 31 + (index >> 8)) & 0xff);
}

async function contentOf(fake: FakeVolume, layer?: SnapshotLayer): Promise<Uint8Array> {
  const device = layer ? new SnapshotView(fake.volume, layer) : fake.volume;
  const bytes = new Uint8Array(SIZE);
  await device.read(bytes, 0);
  return bytes;
}

/** One answer instead of a comparison byte by byte, which takes long. */
function expectSame(actual: Uint8Array, expected: Uint8Array): void {
  const differs = actual.findIndex((byte, index) => byte !== expected[index]);
  expect({ length: actual.length, differs }).toEqual({ length: expected.length, differs: -1 });
}

describe('SnapshotVolume', () => {
  it('shows in a snapshot what was there when it was made', async () => {
    const start = pattern(SIZE, 1);
    const fake = fakeVolume(start, CHUNK);
    const first = fake.snapshot('first');
    await fake.volume.write(pattern(700, 2), 5000);
    await fake.volume.write(pattern(3 * CHUNK, 3), 2 * CHUNK + 100);
    await fake.volume.zero(SIZE - 700, 700);
    expectSame(await contentOf(fake, first), start);
    const live = start.slice();
    live.set(pattern(700, 2), 5000);
    live.set(pattern(3 * CHUNK, 3), 2 * CHUNK + 100);
    live.fill(0, SIZE - 700);
    expectSame(await contentOf(fake), live);
  });

  it('keeps a chunk once, and shares a flush among first writes at the same time', async () => {
    const fake = fakeVolume(pattern(SIZE, 1), CHUNK);
    const { device } = fake.snapshot('first');
    const writes = [0, 1, 2, 3, 4].map((chunk) => fake.volume.write(pattern(16, 9), chunk * CHUNK));
    await Promise.all([...writes, fake.volume.write(pattern(16, 8), 100)]);
    await fake.volume.write(pattern(CHUNK, 7), CHUNK);
    const { groups } = device as FakeWriteOnce;
    expect(groups.reduce((sum, count) => sum + count, 0)).toBe(5);
    expect(groups.length).toBeLessThan(5);
  });

  it('moves nothing for a snapshot of its own time when an older one has the chunk', async () => {
    const fake = fakeVolume(pattern(SIZE, 1), CHUNK);
    const first = fake.snapshot('first');
    const second = fake.snapshot('second');
    await fake.volume.write(pattern(10, 2), 0);
    expect(await first.device.isWritten(0)).toBe(false);
    expect(await second.device.isWritten(0)).toBe(true);
    expect((await contentOf(fake, first)).subarray(0, 10)).toEqual(pattern(SIZE, 1).subarray(0, 10));
  });

  it('fails a write whose old content can not be kept, and changes nothing', async () => {
    const start = pattern(SIZE, 1);
    const fake = fakeVolume(start, CHUNK);
    const first = fake.snapshot('first', { room: 1 });
    await fake.volume.write(pattern(10, 2), 0);
    const failed = fake.volume.write(pattern(10, 2), CHUNK);
    await expect(failed).rejects.toMatchObject({ code: 'NO_SPACE', context: { snapshot: 'first' } });
    await expect(fake.volume.zero(2 * CHUNK, CHUNK)).rejects.toMatchObject({ code: 'NO_SPACE' });
    expect((await contentOf(fake)).subarray(CHUNK)).toEqual(start.subarray(CHUNK));
    expectSame(await contentOf(fake, first), start);
    // Chunks that are covered can still be written to.
    await fake.volume.write(pattern(10, 5), 20);
    (first.device as FakeWriteOnce).room = 5;
    await fake.volume.write(pattern(10, 2), CHUNK);
    expectSame(await contentOf(fake, first), start);
  });

  it('breaks the snapshot instead where that was asked for, and lets older ones keep the chunk', async () => {
    const start = pattern(SIZE, 1);
    const fake = fakeVolume(start, CHUNK, { policy: 'break-snapshot' });
    const old = fake.snapshot('old');
    await fake.volume.write(pattern(10, 2), 0);
    const full = fake.snapshot('full', { room: 1 });
    await fake.volume.write(pattern(10, 3), CHUNK);
    await fake.volume.write(pattern(10, 3), 2 * CHUNK);
    expect(fake.broken).toEqual(['full']);
    expect(full.state).toBe('broken');
    await expect(contentOf(fake, full)).rejects.toMatchObject({ code: 'SNAPSHOT_BROKEN' });
    // What the broken one has is not kept a second time, and still used.
    await fake.volume.write(pattern(10, 4), CHUNK + 50);
    expect(await old.device.isWritten(1)).toBe(false);
    expect(await old.device.isWritten(2)).toBe(true);
    expectSame(await contentOf(fake, old), start);
  });
});

it('does not keep again what a broken newer snapshot has, after everything was opened anew', async () => {
  const start = pattern(SIZE, 1);
  const before = fakeVolume(start, CHUNK);
  const old = before.snapshot('old');
  const newer = before.snapshot('newer');
  await before.volume.write(pattern(10, 2), 0);
  newer.state = 'broken';
  const after = fakeVolume(await contentOf(before), CHUNK);
  after.volume.addSnapshot(old);
  after.volume.addSnapshot(newer);
  await after.volume.write(pattern(10, 3), 5);
  expect(await old.device.isWritten(0)).toBe(false);
  expectSame(await contentOf(after, old), start);
});

type Step =
  | { kind: 'write'; offset: number; length: number; seed: number }
  | { kind: 'zero'; offset: number; length: number }
  | { kind: 'snapshot' };

const range = fc
  .tuple(fc.nat(SIZE - 1), fc.integer({ min: 1, max: 3 * CHUNK }))
  .map(([offset, length]) => ({ offset, length: Math.min(length, SIZE - offset) }));

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(range, fc.nat(200)).map(([r, seed]) => ({ kind: 'write', ...r, seed }) as const),
  },
  { weight: 1, arbitrary: range.map((r) => ({ kind: 'zero', ...r }) as const) },
  { weight: 2, arbitrary: fc.constant({ kind: 'snapshot' } as const) },
);

describe('any sequence of writes and snapshots', () => {
  it('leaves every snapshot as its moment was', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        const model = pattern(SIZE, 0);
        const fake = fakeVolume(model.slice(), CHUNK);
        const taken: { layer: SnapshotLayer; content: Uint8Array }[] = [];
        for (const each of steps) {
          if (each.kind === 'snapshot') {
            taken.push({ layer: fake.snapshot(`s${taken.length}`), content: model.slice() });
          } else if (each.kind === 'zero') {
            await fake.volume.zero(each.offset, each.length);
            model.fill(0, each.offset, each.offset + each.length);
          } else {
            await fake.volume.write(pattern(each.length, each.seed), each.offset);
            model.set(pattern(each.length, each.seed), each.offset);
          }
        }
        expectSame(await contentOf(fake), model);
        for (const { layer, content } of taken) expectSame(await contentOf(fake, layer), content);
      }),
      { numRuns: 60, endOnFailure: true },
    );
  });
});

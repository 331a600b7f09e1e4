/** Rate and time left, on scripted clocks: work of which a part is free. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Estimate } from '../../../../src/cli/progress/estimate.js';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;

/** A part of a disk: bytes that cost go at one speed, free ones at another. Speeds in bytes per millisecond. */
interface Part {
  bytes: number;
  costs: boolean;
}

interface Sample {
  /** Share of the copying that is done. */
  copied: number;
  /** Share of the disk that is done. */
  done: number;
  said: number | undefined;
  left: number;
}

/** Goes through the disk in steps of `step` ms; `expected`: what is believed beforehand to cost. */
function simulate(parts: Part[], speeds: { copy: number; share: number }, step = 100): Sample[] {
  const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const cost = parts.reduce((sum, { bytes, costs }) => sum + (costs ? bytes : 0), 0);
  const time = ({ bytes, costs }: Part): number => bytes / (costs ? speeds.copy : speeds.share);
  const end = parts.reduce((sum, part) => sum + time(part), 0);
  const estimate = new Estimate(0);
  const samples: Sample[] = [];
  for (let now = step; ; now += step) {
    let [done, copied, spent] = [0, 0, 0];
    for (const part of parts) {
      const share = Math.min(1, Math.max(0, (now - spent) / time(part)));
      done += part.bytes * share;
      copied += part.costs ? part.bytes * share : 0;
      spent += time(part);
    }
    if (now >= end) [done, copied] = [total, cost];
    estimate.note(done, total, now, { done: copied, total: cost });
    samples.push({
      copied: cost > 0 ? copied / cost : 1,
      done: done / total,
      said: estimate.remainingMs,
      left: Math.max(0, end - now),
    });
    if (now >= end) return samples;
  }
}

/** Of what is said, the worst factor by which it is wrong, once it matters: `slack` ms before the end it does not. */
function worst(samples: Sample[], slack = 500): number {
  return Math.max(
    1,
    ...samples
      .filter(({ copied, left }) => copied >= 0.1 && left > slack)
      .map(({ said, left }) =>
        said === undefined || said <= 0 ? Number.POSITIVE_INFINITY : Math.max(said / left, left / said),
      ),
  );
}

const speeds = { copy: (100 * MiB) / 1000, share: (50 * GiB) / 1000 };

describe('time left of a disk of which a part is shared or zero', () => {
  test.each([
    [
      'first half free, second half copied',
      [
        { bytes: 8 * GiB, costs: false },
        { bytes: 8 * GiB, costs: true },
      ],
    ],
    [
      'first half copied, second half free',
      [
        { bytes: 8 * GiB, costs: true },
        { bytes: 8 * GiB, costs: false },
      ],
    ],
    [
      'nearly all free',
      [
        { bytes: 1000 * GiB, costs: false },
        { bytes: GiB, costs: true },
        { bytes: 500 * GiB, costs: false },
      ],
    ],
    ['in turns', Array.from({ length: 64 }, (_, index) => ({ bytes: 128 * MiB, costs: index % 2 === 0 }))],
    ['all copied', [{ bytes: 4 * GiB, costs: true }]],
  ])('%s: off by less than half after a tenth of the copying', (_, parts) => {
    expect(worst(simulate(parts, speeds))).toBeLessThan(1.5);
  });

  test('any disk, any speeds: never off by more than twice, never negative, nothing left at the end', () => {
    const part = fc.record({ bytes: fc.integer({ min: MiB, max: 20 * GiB }), costs: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(part, { minLength: 1, maxLength: 12 }),
        fc.double({ min: 20_000, max: 400_000, noNaN: true }),
        fc.double({ min: 0.001, max: 0.1, noNaN: true }),
        (parts, copy, ratio) => {
          const sum = (costs: boolean): number =>
            parts.reduce((bytes, part) => bytes + (part.costs === costs ? part.bytes : 0), 0);
          // All sharing together takes a thousandth to a tenth of the time of all copying.
          const share = sum(true) > 0 ? (sum(false) / sum(true)) * (copy / ratio) : copy;
          const samples = simulate(parts, { copy, share: Math.max(share, 1) }, 250);
          const end = (samples[0]?.left ?? 0) + 250;
          for (const { said } of samples) {
            if (said !== undefined) expect(Number.isFinite(said) && said >= 0).toBe(true);
          }
          expect(samples.at(-1)).toMatchObject({ said: 0, done: 1, copied: 1 });
          expect(worst(samples, Math.max(500, 0.2 * end))).toBeLessThan(2);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('sharing only: told by its own speed', () => {
    const samples = simulate([{ bytes: 400 * GiB, costs: false }], speeds);
    expect(samples[0]?.said).toBeCloseTo(samples[0]?.left ?? -1, 3);
  });

  test('says nothing while only free bytes went by and some must be copied', () => {
    const estimate = new Estimate(0);
    estimate.note(GiB, 2 * GiB, 1000, { done: 0, total: GiB });
    expect(estimate.remainingMs).toBeUndefined();
  });
});

describe('odd reports', () => {
  const odd = fc.record({
    done: fc.double({ min: 0, max: 1e15, noNaN: true }),
    total: fc.double({ min: 0, max: 1e15, noNaN: true }),
    passed: fc.double({ min: -10, max: 1e7, noNaN: true }),
    work: fc.option(
      fc.record({
        done: fc.double({ min: 0, max: 1e15, noNaN: true }),
        total: fc.double({ min: 0, max: 1e15, noNaN: true }),
      }),
      { nil: undefined },
    ),
  });

  test('answers stay finite and not negative whatever is reported', () => {
    fc.assert(
      fc.property(fc.array(odd, { maxLength: 30 }), (reports) => {
        let now = 0;
        const estimate = new Estimate(now);
        for (const { done, total, passed, work } of reports) {
          now += passed;
          estimate.note(done, total, now, work);
          for (const value of [estimate.remainingMs, estimate.rate, estimate.averageRate(now)]) {
            if (value !== undefined) expect(Number.isFinite(value) && value >= 0).toBe(true);
          }
        }
      }),
    );
  });

  test('an empty disk has nothing left', () => {
    const estimate = new Estimate(0);
    estimate.note(0, 0, 1000);
    expect(estimate.remainingMs).toBe(0);
  });
});

describe('rate', () => {
  test('is not known before the first measurement', () => {
    const estimate = new Estimate(0);
    estimate.note(MiB, 2 * MiB, 10);
    expect(estimate.rate).toBeUndefined();
    expect(estimate.remainingMs).toBeUndefined();
  });

  test('counts what costs, not what is shared', () => {
    const estimate = new Estimate(0);
    estimate.note(100 * GiB + 50 * MiB, 200 * GiB, 1000, { done: 50 * MiB, total: GiB });
    expect(estimate.rate).toBeCloseTo(50 * MiB);
    expect(estimate.averageRate(1000)).toBeCloseTo(50 * MiB);
  });

  test('follows a change of pace within some seconds', () => {
    const estimate = new Estimate(0);
    for (let now = 100; now <= 5000; now += 100) estimate.note(now, 1e6, now);
    expect(estimate.rate).toBeCloseTo(1000);
    for (let now = 5100; now <= 25_000; now += 100) estimate.note(5000 + (now - 5000) / 10, 1e6, now);
    expect(estimate.rate).toBeLessThan(150);
  });

  test('sinks when nothing arrives', () => {
    const estimate = new Estimate(0);
    estimate.note(1000, 1e6, 1000);
    estimate.note(1000, 1e6, 11_000);
    expect(estimate.rate).toBeLessThan(50);
  });
});

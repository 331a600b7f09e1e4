import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputQueue } from '../../../src/nbd/input-queue.js';

type Step = { kind: 'push' | 'take' | 'skip' | 'move' | 'peek'; count: number };

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('push', 'push', 'take', 'skip', 'move', 'peek'),
  count: fc.integer({ min: 0, max: 40 }),
});

describe('InputQueue', () => {
  it('gives out what was put in, in order, each byte once', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const queue = new InputQueue();
        let model = Buffer.alloc(0);
        let next = 0;
        for (const { kind, count } of steps) {
          if (kind === 'push') {
            const chunk = Buffer.from(Array.from({ length: count }, () => next++ % 251));
            queue.push(chunk);
            model = Buffer.concat([model, chunk]);
          } else if (kind === 'take' && count <= model.length) {
            expect(queue.take(count).equals(model.subarray(0, count))).toBe(true);
            model = model.subarray(count);
          } else if (kind === 'skip') {
            expect(queue.skip(count)).toBe(Math.min(count, model.length));
            model = model.subarray(Math.min(count, model.length));
          } else if (kind === 'move') {
            const target = Buffer.alloc(count + 3);
            const moved = queue.moveInto(target, 3);
            expect(moved).toBe(Math.min(count, model.length));
            expect(target.subarray(3, 3 + moved).equals(model.subarray(0, moved))).toBe(true);
            model = model.subarray(moved);
          } else if (kind === 'peek') {
            expect(queue.contiguous(count)).toBe(count <= model.length);
            const { buffer, position } = queue;
            if (count <= model.length)
              expect(buffer.subarray(position, position + count).equals(model.subarray(0, count))).toBe(true);
          }
          expect(queue.length).toBe(model.length);
          if (queue.inOneChunk(count)) expect(count).toBeLessThanOrEqual(model.length);
        }
      }),
      { endOnFailure: true },
    );
  });

  it('does not keep a chunk for every byte of a client that sends them one by one', () => {
    const queue = new InputQueue();
    for (let index = 0; index < 100_000; index++) queue.push(Buffer.from([index % 256]));
    expect(queue.length).toBe(100_000);
    const all = queue.take(100_000);
    expect(all.every((byte, index) => byte === index % 256)).toBe(true);
  });
});

/**
 * Rebases that are cut off at any instant: the child shows the same all the time, through its old parent or
 * its new one, and running it again finishes.
 */
import { describe, expect, it } from 'vitest';
import { openChain } from '../../src/formats/chain.js';
import { rebase } from '../../src/operations/rebase.js';
import { CrashDisk } from '../support/crash-disk.js';
import { contentOf, expectSame, hostOf, type Step } from '../unit/operations/merge/chains.js';
import { buildFork, type ForkShape } from '../unit/operations/rebase/forks.js';

const write = (at: number, sectors: number, fill: number): Step => ({ kind: 'write', at, sectors, fill });
const zero = (at: number, sectors: number): Step => ({ kind: 'zero', at, sectors, fill: 1 });

/** Whole blocks and sector runs to pull, zeros over data of the new parent, and one that is shorter. */
function shapeOf(format: 'vhd' | 'vhdx', kind: ForkShape['kind']): ForkShape {
  const base = { growth: 0, steps: [write(0, 600, 1), write(0.6, 100, 2)] };
  const middle = { growth: 300, steps: [write(0.1, 300, 3), zero(0.3, 200), write(0.9, 40, 4)] };
  const top = { growth: 500, steps: [write(0.05, 200, 5), zero(0.01, 64), write(0.8, 100, 6)] };
  const link = { growth: -200, steps: [write(0.12, 80, 7), write(0.3, 300, 8), zero(0.6, 30)] };
  const blockSize = format === 'vhd' ? 65536 : 1 << 20;
  const chain = {
    format,
    blockSize,
    baseType: 'dynamic' as const,
    sectors: 4096,
    links: [base, middle, top],
  };
  return { chain, kind, which: kind === 'other' ? 0 : 0.9, link };
}

const cases = (['vhd', 'vhdx'] as const).flatMap((format) =>
  (['ancestor', 'beside', 'other'] as const).map((kind) => ({ format, kind })),
);

describe.each(cases)('a rebase of a $format child to a parent of kind $kind', ({ format, kind }) => {
  it('can be cut off anywhere and run again', { timeout: 120_000 }, async () => {
    const fork = await buildFork(shapeOf(format, kind));
    const { disk, child, parent, contents } = fork;
    const content = contents[0] ?? Buffer.of();
    disk.start();
    const { pulled } = await rebase(hostOf(disk), { path: child, parent });
    disk.stop();
    expect(pulled).toBeGreaterThan(65536);
    const every = Math.max(1, Math.floor(disk.count / 8));
    const seen = new Set<string>();
    let count = 0;
    for (const { state, label } of disk.states({ every, reorderings: 2, seed: 11 })) {
      const found = new CrashDisk(state);
      const chain = await openChain(hostOf(found).fileSystem, child);
      seen.add(chain.images[1]?.file.path ?? '');
      await chain.close();
      expectSame(await contentOf(hostOf(found), child), content, label);
      count += 1;
      if (count % 4 !== 0) continue;
      await rebase(hostOf(found), { path: child, parent });
      expectSame(await contentOf(hostOf(found), child), content, `${label}, run again`);
    }
    expect([...seen].sort()).toEqual([fork.paths[1], parent].sort());
  });

  it('stops on a full disk with the content as it was, and finishes later', async () => {
    const fork = await buildFork(shapeOf(format, kind));
    const { child, parent, contents } = fork;
    const content = contents[0] ?? Buffer.of();
    let stops = 0;
    const said = new Set<string>();
    for (let room = 0; ; room = room * 2 + 1) {
      const disk = new CrashDisk(fork.disk.files());
      disk.fullAfter(room);
      const failure = await rebase(hostOf(disk), { path: child, parent }).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (failure === undefined) break;
      stops += 1;
      expect(failure).toMatchObject({ code: 'NO_SPACE' });
      said.add(String((failure as { hint?: string }).hint));
      expectSame(await contentOf(hostOf(disk), child), content, `room for ${room}`);
      disk.fullAfter(Number.POSITIVE_INFINITY);
      await rebase(hostOf(disk), { path: child, parent });
      expectSame(await contentOf(hostOf(disk), child), content, `room for ${room}, run again`);
    }
    expect(stops).toBeGreaterThan(2);
    expect([...said].join()).toContain('same command again');
  });
});

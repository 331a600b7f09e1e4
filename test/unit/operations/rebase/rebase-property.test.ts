/**
 * Rebase against a byte model: whatever the old chain and the new parent are, the child shows the same
 * before and after, takes over no more than what differs, and nothing else is touched.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openChain } from '../../../../src/formats/chain.js';
import { rebase } from '../../../../src/operations/rebase.js';
import type { CrashState } from '../../../support/crash-disk.js';
import { contentOf, expectSame, hostOf } from '../merge/chains.js';
import { type BuiltFork, buildFork, differing, forkShape } from './forks.js';

function changedFiles(before: CrashState, after: CrashState): string[] {
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names].filter((name) => {
    const [a, b] = [before.get(name), after.get(name)];
    return !a || !b || Buffer.compare(a, b) !== 0;
  });
}

async function examine(fork: BuiltFork): Promise<{ parent: string; linkId: string; defects: unknown[] }> {
  const chain = await openChain(hostOf(fork.disk).fileSystem, fork.child);
  try {
    const { top, images } = chain;
    const found = [...(await top.check()), ...top.warnings];
    return {
      parent: images[1]?.file.path ?? '',
      linkId: top.linkId ?? '',
      // A block that became zero leaves a gap, which the next one takes: no defect.
      defects: found.filter(({ severity }) => severity !== 'note' && severity !== 'leak'),
    };
  } finally {
    await chain.close();
  }
}

describe.each(['vhd', 'vhdx'] as const)('a rebase of random %s chains', (format) => {
  it('keeps the content of the child and everything else as it is', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(forkShape(format), async (shape) => {
        const fork = await buildFork(shape);
        const { disk, child, parent, contents, parentContent } = fork;
        const content = contents[0] ?? Buffer.of();
        const before = disk.files();
        const known = await examine(fork);

        const plan = await rebase(hostOf(disk), { path: child, parent, dryRun: true });
        expect(changedFiles(before, disk.files())).toEqual([]);
        expect(plan.pulled).toBeLessThanOrEqual(
          differing(contents[1] ?? Buffer.of(), parentContent, content.length),
        );

        const done = await rebase(hostOf(disk), { path: child, parent });
        expect(done).toMatchObject({
          pulled: plan.pulled,
          compared: plan.compared,
          previousParent: known.parent,
        });
        const { shared, kernelCopied, buffered, zeroed } = done.bytes;
        expect(shared + kernelCopied + buffered + zeroed).toBe(done.pulled);
        expect(changedFiles(before, disk.files()).filter((name) => name !== child)).toEqual([]);
        expectSame(await contentOf(hostOf(disk), child), content, 'rebased');
        // The child's own children know it by this id: it shows what it showed.
        expect(await examine(fork)).toEqual({ parent, linkId: known.linkId, defects: [] });

        const again = await rebase(hostOf(disk), { path: child, parent });
        expect(again).toMatchObject({ pulled: 0, linkChanged: false });
        expectSame(await contentOf(hostOf(disk), child), content, 'rebased again');
      }),
      { numRuns: format === 'vhd' ? 15 : 8 },
    );
  });
});

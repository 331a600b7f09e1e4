/**
 * Merging chains of any depth into any of their images, against plain byte arrays.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Chain, openChain } from '../../../../src/formats/chain.js';
import { openImage } from '../../../../src/formats/registry.js';
import { merge } from '../../../../src/operations/merge.js';
import type { CrashDisk } from '../../../support/crash-disk.js';
import { buildChain, chainShape, contentOf, expectSame, hostOf } from './chains.js';

/** Bytes of the disk about which the images above the target say something. */
async function told(disk: CrashDisk, top: string, count: number): Promise<number> {
  const chain = await openChain(disk.fileSystem(), top);
  const extents = await new Chain(chain.images.slice(0, count)).locate(0, chain.virtualSize);
  return extents.reduce((sum, { state, length }) => sum + (state === 'absent' ? 0 : length), 0);
}

async function expectClean(disk: CrashDisk, path: string): Promise<void> {
  const image = await openImage(await disk.fileSystem().open(path));
  const found = [...image.warnings, ...(await image.check())].filter(({ severity }) => severity !== 'note');
  expect({ path, found }).toEqual({ path, found: [] });
}

const RUNS = Number(process.env.VHDKIT_MERGE_RUNS ?? 1);

// A VHDX takes up some MiB however small its disk is.
describe.each([
  ['vhd', 25],
  ['vhdx', 8],
] as const)('merging %s chains', (format, times) => {
  const runs = times * RUNS;

  it(
    'gives the target the contents of the child, in one pass, whatever the depth',
    async () => {
      await fc.assert(
        fc.asyncProperty(
          chainShape(format, 8),
          fc.double({ min: 0, max: 0.999, noNaN: true }),
          fc.boolean(),
          async (shape, where, remove) => {
            const { disk, paths, contents } = await buildChain(shape);
            const host = hostOf(disk);
            const index = 1 + Math.floor(where * (paths.length - 1));
            const [child = '', target = ''] = [paths[0], paths[index]];
            const wanted = contents[0] ?? Buffer.of();
            const expected = await told(disk, child, index);
            const result = await merge(host, { child, to: target, delete: remove });
            expectSame(await contentOf(host, target), wanted, 'target');
            await expectClean(disk, target);
            const { shared, kernelCopied, buffered, zeroed } = result.bytes;
            expect(shared + kernelCopied + buffered + zeroed).toBe(expected);
            for (let below = index + 1; below < paths.length; below += 1) {
              expectSame(
                await contentOf(host, paths[below] ?? ''),
                contents[below] ?? Buffer.of(),
                'beneath the target',
              );
            }
            if (remove) {
              expect([...disk.files().keys()].sort()).toEqual(paths.slice(index).sort());
              expect(result.deleted).toEqual(paths.slice(0, index).reverse());
              return;
            }
            expectSame(await contentOf(host, child), wanted, 'child');
            await expectClean(disk, child);
            // The child depends on the target directly; merging again changes nothing that is shown.
            const again = await merge(host, { child });
            expect(again.target).toBe(target);
            expectSame(await contentOf(host, target), wanted, 'target, merged again');
          },
        ),
        { numRuns: runs },
      );
    },
    120_000 * RUNS,
  );
});

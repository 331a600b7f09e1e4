/**
 * Rebased and relinked chains as other programs see them: libvhdi reads the same before and after, vhd-lib
 * finds the parents, and where storage shares extents, what is taken over is not copied.
 */
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemHost } from '../../src/operations/host.js';
import { vhdkitJson } from '../support/in-process.js';
import { vhdiContent, vhdLibChainComplaint } from '../support/independent-readers.js';
import { mountNew } from '../support/mounts.js';
import { canMount, fuse, lacking } from '../support/requires.js';
import { testFolder } from '../support/tmp.js';
import {
  addImage,
  buildChainIn,
  type ChainShape,
  change,
  contentOf,
  expectSame,
  type Step,
} from '../unit/operations/merge/chains.js';

const MiB = 1024 * 1024;
const SECTORS = (24 * MiB) / 512;
const host = systemHost();

/** Starts and ends at multiples of 4 KiB: libvhdi 20210425 misreads runs that end within a byte of a bitmap. */
const step = (kind: Step['kind'], start: number, length: number, fill: number): Step => ({
  kind,
  at: start / 24 + 1e-9,
  sectors: (length * MiB) / 512,
  fill,
});

/** Three images with whole blocks and runs of sectors in each. */
function shape(format: 'vhd' | 'vhdx'): ChainShape {
  const links = [0, 1, 2].map((depth) => ({
    growth: 0,
    steps: [
      step('write', 2 * depth, 5, 10 + depth),
      step('write', 16 + depth, 0.125, 20 + depth),
      step('zero', 1.5 + 2 * depth, 0.25, 1),
    ],
  }));
  return { format, blockSize: 2 * MiB, baseType: 'dynamic', sectors: SECTORS, links };
}

/** Another child of the base, with data of its own. */
async function addBeside(folder: string, format: 'vhd' | 'vhdx', base: string): Promise<string> {
  const beside = path.join(folder, `beside.${format}`);
  await addImage(host, beside, shape(format), 24 * MiB, base);
  await change(host, beside, Buffer.alloc(24 * MiB), [
    step('write', 3, 4, 30),
    step('zero', 0.5, 0.5, 1),
    step('write', 20, 1, 31),
  ]);
  return beside;
}

const lacks = lacking('vhdimount') || (fuse ? '' : ' (needs FUSE)');

describe.skipIf(lacks).each(['vhd', 'vhdx'] as const)(`a chain of %s images${lacks}`, (format) => {
  async function expectSeen(child: string, content: Buffer, what: string): Promise<void> {
    expectSame(await vhdiContent(child), content, `${what}, libvhdi`);
    expectSame(await contentOf(host, child), content, `${what}, vhdkit`);
    if (format === 'vhd') expect(await vhdLibChainComplaint(child)).toBeUndefined();
  }

  it('reads the same after its child was rebased, to a neighbour and to the base', async () => {
    const folder = testFolder();
    const { paths, contents } = await buildChainIn(host, folder, shape(format));
    const [child = '', middle = '', base = ''] = paths;
    const content = contents[0] ?? Buffer.of();
    const beside = await addBeside(folder, format, base);
    await expectSeen(child, content, 'before');
    const first = await vhdkitJson(['rebase', child, '--parent', beside]);
    expect(first).toMatchObject({ parent: beside, previousParent: middle, linkChanged: true });
    expect(first.pulled).toBeGreaterThan(MiB);
    rmSync(middle);
    await expectSeen(child, content, 'over the neighbour');
    const second = await vhdkitJson(['rebase', child, '--parent', base]);
    expect(second).toMatchObject({ parent: base, previousParent: beside });
    rmSync(beside);
    await expectSeen(child, content, 'over the base');
  });

  it('reads the same after all of it was moved, the parent renamed, and the link repaired', async () => {
    const folder = testFolder();
    const { paths, contents } = await buildChainIn(host, folder, shape(format));
    const [child = '', middle = ''] = paths.map((each) => path.join(folder, 'moved', path.basename(each)));
    mkdirSync(path.join(folder, 'moved'));
    for (const each of paths) renameSync(each, path.join(folder, 'moved', path.basename(each)));
    // Beside the child, where libvhdi looks.
    const renamed = path.join(folder, 'moved', `renamed.${format}`);
    for (const image of [child, middle]) {
      const { linkChanged } = await vhdkitJson(['rebase', image, '--relink']);
      expect(linkChanged).toBe(true);
    }
    await expectSeen(child, contents[0] ?? Buffer.of(), 'moved');
    renameSync(middle, renamed);
    await vhdkitJson(['rebase', renamed, '--relink', '--parent', path.join(folder, 'moved', `0.${format}`)]);
    await vhdkitJson(['rebase', child, '--relink', '--parent', renamed]);
    await expectSeen(child, contents[0] ?? Buffer.of(), 'renamed');
  });
});

describe.each(['xfs', 'btrfs'] as const)('on %s', (kind) => {
  const lacksMount = canMount(kind) ? '' : ` (can't mount ${kind})`;

  it.skipIf(lacksMount).each(['vhd', 'vhdx'] as const)(
    `what a %s child takes over is shared${lacksMount}`,
    async (format) => {
      const mounted = mountNew(kind, 512);
      try {
        const { paths, contents } = await buildChainIn(host, mounted.path, shape(format));
        const [child = '', , base = ''] = paths;
        const { pulled, bytes } = await vhdkitJson(['rebase', child, '--parent', base]);
        expect(pulled).toBeGreaterThan(MiB);
        expect(bytes).toMatchObject({ kernelCopied: 0, buffered: 0 });
        expectSame(await contentOf(host, child), contents[0] ?? Buffer.of(), 'rebased');
      } finally {
        mounted.unmount();
      }
    },
  );
});

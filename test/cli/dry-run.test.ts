/** A dry run foresees what the conversion then does, and changes nothing. */
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { sha256 } from '../support/content.js';
import type { ConvertReport } from '../support/convert.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { loopDevice, type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canLoop, canMount } from '../support/requires.js';

import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder, removeFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
let folder: string;
const at = (name: string): string => path.join(folder, name);

interface Foreseen extends ConvertReport {
  dryRun: boolean;
  plan: { blockSize: number | null; blocks: number; totalBlocks: number; atMost: boolean };
}

/** 24 MiB, sparse as a VHDX: payload at 1, 9 and 17 MiB, the last of it stored zeros. */
beforeAll(async () => {
  folder = makeTempFolder('dry-run');
  const content = Buffer.alloc(24 * MiB);
  seededBytes(MiB, 1).copy(content, MiB);
  seededBytes(3 * MiB, 2).copy(content, 9 * MiB);
  writeFileSync(at('a.raw'), content);
  await vhdkitJson(['convert', at('a.raw'), at('a.vhdx'), '--block-size', '1M']);
  await vhdkitJson(['convert', at('a.raw'), at('dense.vhd'), '--type', 'fixed', '--zeros', 'holes']);
});

async function rehearse(source: string, target: string, args: readonly string[]): Promise<Foreseen> {
  const before = readdirSync(path.dirname(target));
  const foreseen = await vhdkitJson(['convert', source, target, ...args, '--dry-run']);
  expect(readdirSync(path.dirname(target))).toEqual(before);
  return foreseen as unknown as Foreseen;
}

const TARGETS: readonly [name: string, args: readonly string[]][] = [
  ['b.raw', []],
  ['b.vhd', []],
  ['b.vhd', ['--type', 'fixed']],
  ['b.vhd', ['--block-size', '512K']],
  ['b.vhdx', []],
  ['b.vhdx', ['--type', 'fixed']],
  ['b.vhdx', ['--block-size', '1M']],
  ['b.vhdx', ['--block-size', '32M']],
];

describe.each([
  ['on the temporary folder', undefined],
  ['on XFS, sharing extents', 'xfs'],
] as const)('%s', (title, kind) => {
  describe.skipIf(kind !== undefined && !canMount(kind))(`${title}: what is foreseen is what happens`, () => {
    let mounted: MountedFileSystem | undefined;
    beforeAll(() => {
      if (kind !== undefined) mounted = mountNew(kind);
      return () => mounted?.unmount();
    });
    const place = (): string => {
      if (!mounted) return testFolder();
      const own = mkdtempSync(path.join(mounted.path, 'test-'));
      onTestFinished(() => removeFolder(own));
      return own;
    };

    test.each(TARGETS)('%s %j, by the holes', async (name, args) => {
      const here = place();
      copyFileSync(at('a.vhdx'), path.join(here, 'a.vhdx'));
      const target = path.join(here, name);
      const settings = [...args, '--zeros', 'holes'];
      const foreseen = await rehearse(path.join(here, 'a.vhdx'), target, settings);
      const real = (await vhdkitJson([
        'convert',
        path.join(here, 'a.vhdx'),
        target,
        ...settings,
      ])) as unknown as ConvertReport;
      expect(foreseen).toMatchObject({ dryRun: true, fileSize: real.fileSize, bytes: real.bytes });
      expect(foreseen.plan.atMost).toBe(false);
      expect(statSync(target).size).toBe(foreseen.fileSize);
      const info = (await vhdkitJson(['info', target])) as { blockSize: number | null };
      expect(foreseen.plan.blockSize).toBe(info.blockSize ?? null);
    });

    test.each(TARGETS)('%s %j, where zeros would be looked for: an upper bound', async (name, args) => {
      const here = place();
      const target = path.join(here, name);
      const settings = [...args, '--zeros', 'scan'];
      const foreseen = await rehearse(at('dense.vhd'), target, settings);
      const real = (await vhdkitJson([
        'convert',
        at('dense.vhd'),
        target,
        ...settings,
      ])) as unknown as ConvertReport;
      expect(foreseen.plan.atMost).toBe(true);
      expect(foreseen.fileSize).toBeGreaterThanOrEqual(real.fileSize);
      for (const by of ['shared', 'kernelCopied', 'buffered'] as const) {
        expect(foreseen.bytes[by]).toBeGreaterThanOrEqual(real.bytes[by]);
      }
      expect(foreseen.bytes.zeroed).toBeLessThanOrEqual(real.bytes.zeroed);
    });
  });
});

test('as text: what would be done, with the bounds named as such', async () => {
  const here = testFolder();
  const lines = async (source: string, zeros: string): Promise<string> =>
    (await vhdkit(['convert', at(source), path.join(here, 'b.vhdx'), '--dry-run', '--zeros', zeros])).stdout;
  const scanned = await lines('dense.vhd', 'scan');
  expect(scanned).toMatch(/^Would convert .*dense\.vhd \(vhd\) to .*b\.vhdx \(vhdx, dynamic\)$/m);
  expect(scanned).toMatch(/^ {2}file size +at most 28 MiB/m);
  expect(scanned).toMatch(/^ {2}blocks +at most 12 of 12, 2 MiB each$/m);
  expect(scanned).toMatch(/^ {2}to (copy in kernel|read and write) +at most 24 MiB/m);
  const exact = await lines('a.vhdx', 'holes');
  expect(exact).toMatch(/^ {2}blocks +3 of 12, 2 MiB each$/m);
  expect(exact).toMatch(/^ {2}to (copy in kernel|read and write|share) +4 MiB/m);
  expect(exact).not.toContain('at most');
});

test('a target that is there stays as it is', async () => {
  const here = testFolder();
  const target = path.join(here, 'b.vhd');
  writeFileSync(target, 'not an image');
  const refused = await vhdkit(['convert', at('a.vhdx'), target, '--dry-run']);
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain('--force');
  const before = statSync(target);
  await rehearse(at('a.vhdx'), target, ['--force']);
  expect(readFileSync(target, 'utf8')).toBe('not an image');
  expect(statSync(target).mtimeMs).toBe(before.mtimeMs);
});

test('what an interrupted conversion left is still there afterwards', async () => {
  const here = testFolder();
  const left = ['.b.vhd.vhdkit-partial', '.b.vhd.vhdkit-journal'];
  for (const name of left) writeFileSync(path.join(here, name), name);
  await rehearse(at('a.vhdx'), path.join(here, 'b.vhd'), []);
  for (const name of left) expect(readFileSync(path.join(here, name), 'utf8')).toBe(name);
});

describe.skipIf(!canLoop())('onto a block device (needs loop devices)', () => {
  test('nothing is written, and too small a device is found out', async () => {
    const here = testFolder();
    const [fits, small] = ['fits', 'small'].map((name) => path.join(here, name)) as [string, string];
    writeFileSync(fits, Buffer.alloc(24 * MiB, 0xaa));
    writeFileSync(small, Buffer.alloc(16 * MiB, 0xaa));
    const hashes = await Promise.all([fits, small].map(sha256));
    for (const [file, status] of [
      [fits, 0],
      [small, 1],
    ] as const) {
      const device = loopDevice(file);
      onTestFinished(() => void device.detach());
      const args = ['convert', at('a.vhdx'), device.path, '--force', '--dry-run'];
      const result = await vhdkit(args);
      expect({ file, status: result.status, stderr: result.stderr.split('\n')[0] }).toEqual({
        file,
        status,
        stderr: status === 0 ? '' : expect.stringContaining('holds 16777216 bytes'),
      });
    }
    expect(await Promise.all([fits, small].map(sha256))).toEqual(hashes);
  });
});

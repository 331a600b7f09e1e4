/**
 * Merges that are cut off at any instant: the chain shows the child's content through the child, and
 * merging again finishes.
 */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { merge } from '../../src/operations/merge.js';
import { qemuDifference } from '../support/content.js';
import { CrashDisk, type CrashState } from '../support/crash-disk.js';
import { tool } from '../support/requires.js';
import { must } from '../support/run.js';
import { testFolder } from '../support/tmp.js';
import {
  type BuiltChain,
  buildChain,
  type ChainShape,
  contentOf,
  expectSame,
  hostOf,
  type Step,
} from '../unit/operations/merge/chains.js';

const write = (at: number, sectors: number, fill: number): Step => ({ kind: 'write', at, sectors, fill });
const zero = (at: number, sectors: number): Step => ({ kind: 'zero', at, sectors, fill: 1 });

/** Instants tried per case; all of them with a large number. */
const INSTANTS = Number(process.env.VHDKIT_CRASH_INSTANTS ?? 6);

/** Whole blocks, sector runs, zeros over data, and a child that is larger than what lies beneath. */
function shapeOf(format: 'vhd' | 'vhdx', depth: 2 | 3): ChainShape {
  const base = { growth: 0, steps: [write(0, 2100, 1), write(0.6, 100, 2)] };
  const middle = { growth: 0, steps: [write(0.1, 300, 3), zero(0.3, 200), write(0.7, 40, 4)] };
  const top = { growth: 2500, steps: [write(0.05, 200, 5), zero(0.01, 64), write(0.8, 500, 6)] };
  const blockSize = format === 'vhd' ? 65536 : 1 << 20;
  const links = depth === 2 ? [base, top] : [base, middle, top];
  return { format, blockSize, baseType: 'dynamic', sectors: 4096, links };
}

interface Case {
  format: 'vhd' | 'vhdx';
  depth: 2 | 3;
  remove: boolean;
}

const cases: Case[] = (['vhd', 'vhdx'] as const).flatMap((format) => [
  { format, depth: 2 as const, remove: false },
  { format, depth: 3 as const, remove: true },
]);

/** The content as whoever looks at the files would get it: through the child, or the target once that is gone. */
async function shown(disk: CrashDisk, { paths }: BuiltChain): Promise<Buffer> {
  const [child = '', base = ''] = [paths[0], paths.at(-1)];
  return contentOf({ fileSystem: disk.fileSystem() }, disk.files().has(child) ? child : base);
}

/** qemu-img finds in the target what we find, whatever state it is in. */
async function expectQemuAgrees(state: CrashState, target: string, label: string): Promise<void> {
  const folder = testFolder('crash');
  const [image, raw] = [path.join(folder, 'target'), path.join(folder, 'target.raw')];
  await fs.writeFile(image, state.get(target) ?? Buffer.of());
  await fs.writeFile(raw, await contentOf({ fileSystem: new CrashDisk(state).fileSystem() }, target));
  const format = target.endsWith('vhdx') ? 'vhdx' : 'vpc';
  // QEMU replays a log only when asked to repair.
  if (format === 'vhdx') await must('qemu-img', ['check', '-q', '-r', 'all', image]);
  const found = await qemuDifference({ path: image, format }, { path: raw, format: 'raw' });
  expect({ label, found }).toEqual({ label, found: undefined });
}

describe.each(cases)('a merge of $depth $format images (--delete: $remove)', ({ format, depth, remove }) => {
  it('can be cut off anywhere and run again', { timeout: 120_000 + 5000 * INSTANTS }, async () => {
    const built = await buildChain(shapeOf(format, depth));
    const { disk, paths, contents } = built;
    const [child = '', target = ''] = [paths[0], paths.at(-1)];
    const wanted = contents[0] ?? Buffer.of();
    const options = { child, to: target, delete: remove, flushInterval: 0 };
    disk.start();
    await merge(hostOf(disk), options);
    disk.stop();
    expectSame(await contentOf(hostOf(disk), target), wanted, 'uninterrupted');
    const every = Math.max(1, Math.floor(disk.count / INSTANTS));
    let count = 0;
    for (const { state, label } of disk.states({ every, reorderings: 1, seed: INSTANTS })) {
      const found = new CrashDisk(state);
      expectSame(await shown(found, built), wanted, label);
      if (tool('qemu-img') && count++ % 16 === 8) await expectQemuAgrees(state, target, label);
      if (!found.files().has(child)) continue;
      await merge(hostOf(found), options);
      expectSame(await contentOf(hostOf(found), target), wanted, `${label}, merged again`);
      if (!remove) expectSame(await shown(found, built), wanted, `${label}, merged again, child`);
    }
  });

  it('stops on a full disk with everything readable, and finishes later', async () => {
    const fresh = await buildChain(shapeOf(format, depth));
    const [child = '', target = ''] = [fresh.paths[0], fresh.paths.at(-1)];
    const wanted = fresh.contents[0] ?? Buffer.of();
    const start = fresh.disk.files();
    let stops = 0;
    for (let room = 0; ; room = Math.ceil(room * 1.4) + 1) {
      const disk = new CrashDisk(start);
      disk.fullAfter(room);
      const failure = await merge(hostOf(disk), { child, to: target, delete: remove }).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (failure === undefined) break;
      stops += 1;
      expect(failure).toMatchObject({
        code: 'NO_SPACE',
        hint: expect.stringContaining('same command again'),
      });
      expectSame(await shown(disk, fresh), wanted, `room for ${room}`);
      disk.fullAfter(Number.POSITIVE_INFINITY);
      await merge(hostOf(disk), { child, to: target, delete: remove });
      expectSame(await contentOf(hostOf(disk), target), wanted, `room for ${room}, merged again`);
    }
    expect(stops).toBeGreaterThan(3);
  });
});

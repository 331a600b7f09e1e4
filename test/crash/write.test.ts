/**
 * Writes that are cut off at any instant: every sector shows what it was or what was being written to it,
 * and the image opens.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { qemuDifference } from '../support/content.js';
import { CrashDisk, type CrashState } from '../support/crash-disk.js';
import { tool } from '../support/requires.js';
import { run } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';
import { contentOf, hostOf, SECTOR, type Step } from '../unit/operations/merge/chains.js';
import { diskWith, KINDS, type Kind, TOP, writeTo } from '../unit/operations/write/streams.js';

const SIZE = 3 * 1024 * 1024 + 512 * 5;
const STEPS: Step[] = [
  { kind: 'write', at: 0, sectors: 500, fill: 1 },
  { kind: 'write', at: 0.5, sectors: 1000, fill: 2 },
];

/** Sectors that show neither of the two. */
function torn(shown: Buffer, before: Buffer, after: Buffer): number[] {
  if (shown.length !== before.length) return [-1];
  const bad: number[] = [];
  for (let at = 0; at < shown.length; at += SECTOR) {
    const sector = shown.subarray(at, at + SECTOR);
    const known = [before, after].some((each) => sector.equals(each.subarray(at, at + SECTOR)));
    if (!known) bad.push(at / SECTOR);
  }
  return bad;
}

/** qemu-img finds in the image what we find, after it has replayed the log of a VHDX. */
async function expectQemuAgrees(
  state: CrashState,
  { format }: Kind,
  shown: Buffer,
  label: string,
): Promise<void> {
  const folder = testFolder('crash');
  const [image, raw] = [path.join(folder, 'image'), path.join(folder, 'disk.raw')];
  writeFileSync(image, state.get(TOP) ?? Buffer.of());
  writeFileSync(raw, shown);
  const driver = format === 'vhd' ? 'vpc' : 'vhdx';
  if (format === 'vhdx') await run('qemu-img', ['check', '-q', '-r', 'all', '-f', driver, image]);
  const found = await qemuDifference({ path: image, format: driver }, { path: raw, format: 'raw' });
  expect({ label, found }).toEqual({ label, found: undefined });
}

const cases = KINDS.flatMap((kind) =>
  (kind.type === 'fixed' ? (['data'] as const) : (['data', 'scan'] as const)).map((zeros) => ({
    ...kind,
    zeros,
  })),
);

describe('a write that is cut off', () => {
  it.each(cases)('leaves each sector of a $name old or new, zeros as $zeros', async ({ zeros, ...kind }) => {
    const { disk, model } = await diskWith(kind, SIZE, STEPS);
    const offset = 100_003;
    const bytes = seededBytes(2_500_001, 5).fill(0, 1_500_000, 1_900_000);
    const after = Buffer.from(model);
    bytes.copy(after, offset);
    disk.start();
    await writeTo(disk, bytes, { offset, zeros });
    disk.stop();
    const every = Math.max(1, Math.floor(disk.count / 8));
    let states = 0;
    for (const { state, label } of disk.states({ every, reorderings: 2, seed: 3 })) {
      const shown = await contentOf(hostOf(new CrashDisk(state)), TOP);
      expect({ label, torn: torn(shown, model, after) }).toEqual({ label, torn: [] });
      states += 1;
      const isAlone = kind.format !== 'raw' && kind.type === 'dynamic';
      if (isAlone && states % 8 === 5 && tool('qemu-img')) await expectQemuAgrees(state, kind, shown, label);
    }
    expect(states).toBeGreaterThan(10);
    expect((await contentOf(hostOf(disk), TOP)).equals(after)).toBe(true);
  });
});

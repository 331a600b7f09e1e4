/**
 * Every legal block size of VHD and VHDX, written, read back, and read by other programs.
 */
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { qemuDifference, sha256 } from '../support/content.js';
import { convert } from '../support/convert.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { vhdiComplaint, vhdLibContentHash } from '../support/independent-readers.js';
import { lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Not a multiple of any block but the smallest ones; more than one block of the largest. */
const SIZE = 264 * MIB + 4 * KIB + 512;
/** Across the edges of blocks of every size, and the last sector. */
const RUNS = [
  [0, 5000],
  [2 * MIB - 512, 1024],
  [3 * MIB + 512, 300_000],
  [256 * MIB - 1536, 4096],
  [SIZE - 512, 512],
] as const;

function powers(from: number, to: number): { size: number; name: string }[] {
  const sizes: { size: number; name: string }[] = [];
  for (let size = from; size <= to; size *= 2) {
    sizes.push({ size, name: size < MIB ? `${size / KIB}K` : `${size / MIB}M` });
  }
  return sizes;
}

/** By a program that skips what both have not stored. */
async function expectSame(a: string, b: string): Promise<void> {
  expect(statSync(a).size).toBe(statSync(b).size);
  expect(await qemuDifference({ path: a, format: 'raw' }, { path: b, format: 'raw' })).toBeUndefined();
}

const lacks = lacking('qemu-img', 'vhdiinfo');

describe.skipIf(lacks)(`block sizes${lacks}`, () => {
  let raw: string;
  let digest: string;

  beforeAll(async () => {
    raw = path.join(makeTempFolder('blocks'), 'disk.raw');
    writeFileSync(raw, '');
    truncateSync(raw, SIZE);
    const handle = await open(raw, 'r+');
    for (const [offset, length] of RUNS)
      await handle.write(seededBytes(length, offset + 1), 0, length, offset);
    await handle.close();
    digest = await sha256(raw);
  });

  it.each(powers(4 * KIB, 256 * MIB))('VHD of $name', async ({ size, name }) => {
    const folder = testFolder();
    const image = path.join(folder, 'disk.vhd');
    const result = await vhdkitJson(['convert', raw, image, '--block-size', name]);
    const codes = (result.warnings as { code: string }[]).map(({ code }) => code);
    expect(codes).toEqual(size === 2 * MIB ? [] : ['VHD_BLOCK_SIZE_UNUSUAL']);
    expect(await vhdkitJson(['info', image])).toMatchObject({ blockSize: size, virtualSize: SIZE });
    const back = path.join(folder, 'back.raw');
    await convert(image, back);
    await expectSame(back, raw);
    expect(
      await qemuDifference({ path: image, format: 'vpc' }, { path: raw, format: 'raw' }),
    ).toBeUndefined();
    expect(await vhdiComplaint(image, SIZE)).toBeUndefined();
    expect(await vhdLibContentHash(image)).toBe(digest);
  });

  it.each(powers(MIB, 256 * MIB))('VHDX of $name', async ({ size, name }) => {
    const folder = testFolder();
    const image = path.join(folder, 'disk.vhdx');
    await convert(raw, image, ['--block-size', name]);
    expect(await vhdkitJson(['info', image])).toMatchObject({ blockSize: size, virtualSize: SIZE });
    const back = path.join(folder, 'back.raw');
    await convert(image, back);
    await expectSame(back, raw);
    expect(
      await qemuDifference({ path: image, format: 'vhdx' }, { path: raw, format: 'raw' }),
    ).toBeUndefined();
    await must('qemu-img', ['check', '-f', 'vhdx', image]);
    expect(await vhdiComplaint(image, SIZE)).toBeUndefined();
  });

  it('VHDX of 1M and 256M with sectors of 4096 bytes', async () => {
    const folder = testFolder();
    for (const name of ['1M', '256M']) {
      const image = path.join(folder, `${name}.vhdx`);
      await convert(raw, image, ['--block-size', name, '--sector-size', '4096']);
      const info = await vhdkitJson(['info', image]);
      // Sectors are whole: the disk ends in zeros.
      expect(info).toMatchObject({ logicalSectorSize: 4096, virtualSize: 264 * MIB + 8 * KIB });
      expect((await must('vhdiinfo', [image])).stdout).toMatch(/Bytes per sector\s*: 4096/);
      const same = await vhdkit(['compare', raw, image]);
      expect(same.status, same.stderr).toBe(0);
    }
  });

  it.each([
    ['vhd', '512'],
    ['vhd', '2K'],
    ['vhd', '3M'],
    ['vhd', '512M'],
    ['vhdx', '512K'],
    ['vhdx', '3M'],
    ['vhdx', '512M'],
  ])('%s of %s is refused with what is possible', async (format, size) => {
    const target = path.join(testFolder(), `disk.${format}`);
    const result = await vhdkit(['convert', raw, target, '--block-size', size]);
    expect(result.status).toBe(64);
    expect(result.stderr).toMatch(/256 MiB|256M/);
  });
});

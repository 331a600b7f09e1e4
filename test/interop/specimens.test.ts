/**
 * Images that Windows, Hyper-V, XenServer and old tools wrote. They lie beside the project, if at all.
 */
import { copyFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { qemuDifference, sha256, storedBytes } from '../support/content.js';
import { convert } from '../support/convert.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { lacking } from '../support/requires.js';
import { specimen } from '../support/specimens.js';
import { testFolder } from '../support/tmp.js';

/** Beginnings of the SHA-256 of the virtual disk, as an independent parser found them. */
const CONTENT: Readonly<Record<string, string>> = {
  'win10-dynamic.vhd': 'ecff2ef6615a3cdd',
  'win10-fixed.vhd': '459325ab1fcd1d5e',
  'win10-dynamic.vhdx': '8e2b5e9265d694b4',
  'win10-fixed.vhdx': 'bc0be4623b15aa84',
  'vhdx-log-replay.vhdx': '3ba3b309425b7ff5',
};

/** Images without any data: all of the disk is zero. */
const EMPTY = ['win8.vhd', 'xapi.vhd', 'qemu.vhd'];

function need(name: string): string {
  const file = specimen(name);
  if (file === undefined) throw new Error(`specimen ${name} is missing`);
  return file;
}

function lack(...names: string[]): string {
  const missing = names.filter((name) => specimen(name) === undefined);
  return missing.length === 0 ? '' : ` (needs specimens ${missing.join(', ')})`;
}

describe.each(Object.entries(CONTENT))('%s', (name, content) => {
  const lacks = lack(name);
  it.skipIf(lacks)(`has the contents that others read${lacks}`, async () => {
    const raw = path.join(testFolder(), 'disk.raw');
    await convert(need(name), raw);
    expect((await sha256(raw)).slice(0, 16)).toBe(content);
  });

  const lacksQemu = lacks + lacking('qemu-img');
  it.skipIf(lacksQemu)(`keeps them in every kind of image${lacksQemu}`, async () => {
    const folder = testFolder();
    const first = path.join(folder, 'disk.raw');
    await convert(need(name), first);
    for (const [index, args] of [
      ['-O', 'vhd', '--type', 'fixed'],
      ['-O', 'vhd', '--type', 'dynamic'],
      ['-O', 'vhdx', '--type', 'fixed'],
      ['-O', 'vhdx', '--type', 'dynamic'],
    ].entries()) {
      const image = path.join(folder, `image-${index}`);
      const raw = path.join(folder, `disk-${index}.raw`);
      await convert(need(name), image, args);
      await convert(image, raw);
      // qemu-img skips what both have not stored: some of these disks are large.
      expect(statSync(raw).size).toBe(statSync(first).size);
      const found = await qemuDifference({ path: raw, format: 'raw' }, { path: first, format: 'raw' });
      expect(found, args.join(' ')).toBeUndefined();
    }
  });
});

describe.each(EMPTY)('%s', (name) => {
  const lacks = lack(name);
  it.skipIf(lacks)(`reads as zeros and becomes a raw file without stored bytes${lacks}`, async () => {
    const raw = path.join(testFolder(), 'disk.raw');
    const report = await convert(need(name), raw);
    expect(report.bytes).toEqual({ shared: 0, kernelCopied: 0, buffered: 0, zeroed: report.virtualSize });
    expect(storedBytes(raw)).toBeLessThanOrEqual(4096);
  });
});

const logLacks = lack('vhdx-log-replay.vhdx') + lacking('qemu-img');
describe.skipIf(logLacks)(`a VHDX with a log to replay${logLacks}`, () => {
  it('reads as after replay while its own bytes stay as they are', async () => {
    const folder = testFolder();
    const copy = path.join(folder, 'dirty.vhdx');
    copyFileSync(need('vhdx-log-replay.vhdx'), copy);
    const before = await sha256(copy);
    expect(await vhdkitJson(['info', copy])).toMatchObject({ log: 'dirty' });
    // What the specimen itself becomes is looked at above.
    const [raw, other] = [path.join(folder, 'disk.raw'), path.join(folder, 'other.raw')];
    await convert(copy, raw);
    await convert(need('vhdx-log-replay.vhdx'), other);
    const found = await qemuDifference({ path: raw, format: 'raw' }, { path: other, format: 'raw' });
    expect(found).toBeUndefined();
    expect(await sha256(copy)).toBe(before);
  });
});

const childLacks = lack('differencing.avhdx');
describe.skipIf(childLacks)(`a child whose parent is elsewhere${childLacks}`, () => {
  it('is refused, and the message names the parent it looked for', async () => {
    const raw = path.join(testFolder(), 'disk.raw');
    const result = await vhdkit(['convert', need('differencing.avhdx'), raw, '--json']);
    expect(result.status).toBe(1);
    const { error } = JSON.parse(result.stdout) as { error: { code: string; message: string } };
    expect(error.code).toBe('PARENT_MISSING');
    expect(error.message).toMatch(/\.a?vhdx/i);
    expect(await vhdkit(['info', raw])).toMatchObject({ status: 1 });
  });

  it('can still be described', async () => {
    const info = await vhdkitJson(['info', need('differencing.avhdx')]);
    expect(info).toMatchObject({ type: 'differencing', parent: { status: 'missing' } });
  });
});

const pairLacks = lack('win8.vhd', 'win8-child.vhd');
describe.skipIf(pairLacks)(`a Windows 8 parent and child${pairLacks}`, () => {
  it('convert together from one folder', async () => {
    const folder = testFolder();
    for (const name of ['win8.vhd', 'win8-child.vhd']) copyFileSync(need(name), path.join(folder, name));
    const raw = path.join(folder, 'disk.raw');
    const report = await convert(path.join(folder, 'win8-child.vhd'), raw);
    expect(report.bytes.zeroed).toBe(report.virtualSize);
  });
});

const badLacks = lack('image.vhd', 'image-differential.vhd');
describe.skipIf(badLacks)(`images with wrong footer checksums${badLacks}`, () => {
  it('are readable with a warning', async () => {
    const result = await vhdkit([
      'convert',
      need('image.vhd'),
      path.join(testFolder(), 'disk.raw'),
      '--json',
    ]);
    expect(result.status, result.stdout + result.stderr).toBe(0);
    const info = (await vhdkitJson(['info', need('image.vhd')])) as { warnings: { code: string }[] };
    expect(info.warnings.map((warning) => warning.code).join(' ')).toMatch(/CHECKSUM/);
  });
});

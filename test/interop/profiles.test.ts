/**
 * Images made for a platform, as other programs see them; and the package as it is installed, where
 * vhd-lib is not there.
 */
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { qemuDifference, sha256 } from '../support/content.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import {
  qemuCheckComplaint,
  qemuVirtualSize,
  vhdiComplaint,
  vhdLibContentHash,
} from '../support/independent-readers.js';
import { lacking } from '../support/requires.js';
import { must, PROJECT_ROOT, run } from '../support/run.js';
import { makeSampleDisk, SAMPLE_DISK_TOOLS } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
const lacks = lacking('qemu-img', 'vhdiinfo', ...SAMPLE_DISK_TOOLS);

interface Warnings {
  virtualSize: number;
  sha256: string;
  warnings: { code: string }[];
}

async function convertFor(profile: string, source: string, target: string): Promise<Warnings> {
  const report = await vhdkitJson(['convert', source, target, '--for', profile, '--verify']);
  return report as unknown as Warnings;
}

async function findings(profile: string, image: string): Promise<{ status: number; codes: string[] }> {
  const result = await vhdkit(['check', image, '--profile', profile, '--json']);
  const document = JSON.parse(result.stdout) as { findings: { code: string }[] };
  return { status: result.status, codes: document.findings.map(({ code }) => code) };
}

describe.skipIf(lacks)(`a GPT disk with ext4${lacks}`, () => {
  let raw: string;
  let size: number;

  beforeAll(async () => {
    raw = path.join(makeTempFolder('profiles'), 'disk.raw');
    ({ size } = await makeSampleDisk(raw));
  });

  test('azure: the file is the disk, then the footer', async () => {
    const target = path.join(testFolder('profiles'), 'disk.vhd');
    const { sha256: digest, warnings } = await convertFor('azure', raw, target);
    expect(warnings).toEqual([]);
    expect(digest).toBe(await sha256(raw));
    expect(await findings('azure', target)).toEqual({ status: 0, codes: [] });
    expect(await vhdiComplaint(target, size)).toBeUndefined();
    expect(await qemuVirtualSize(target, 'vpc')).toBe(size);
    expect(
      await qemuDifference({ path: raw, format: 'raw' }, { path: target, format: 'vpc' }),
    ).toBeUndefined();
    await must('cmp', ['-n', String(size), raw, target]);
  });

  test.each(['xenserver', 'virtualbox'])('%s', async (profile) => {
    const target = path.join(testFolder('profiles'), 'disk.vhd');
    const { warnings } = await convertFor(profile, raw, target);
    expect(warnings).toEqual([]);
    expect(await findings(profile, target)).toEqual({ status: 0, codes: [] });
    expect(await vhdLibContentHash(target)).toBe(await sha256(raw));
    expect(await vhdiComplaint(target, size)).toBeUndefined();
    expect(
      await qemuDifference({ path: raw, format: 'raw' }, { path: target, format: 'vpc' }),
    ).toBeUndefined();
  });

  test('hyperv', async () => {
    const target = path.join(testFolder('profiles'), 'disk.vhdx');
    const { warnings } = await convertFor('hyperv', raw, target);
    expect(warnings).toEqual([]);
    expect(await findings('hyperv', target)).toEqual({ status: 0, codes: [] });
    expect(await qemuCheckComplaint(target, 'vhdx')).toBeUndefined();
    expect(
      await qemuDifference({ path: raw, format: 'raw' }, { path: target, format: 'vhdx' }),
    ).toBeUndefined();
  });

  test('wsl: the partition table is remarked on, before and after', async () => {
    const target = path.join(testFolder('profiles'), 'ext4.vhdx');
    const { warnings } = await convertFor('wsl', raw, target);
    expect(warnings.map(({ code }) => code)).toEqual(['WSL_PARTITION_TABLE']);
    expect(await findings('wsl', target)).toEqual({ status: 0, codes: ['WSL_PARTITION_TABLE'] });
    expect(await vhdkitJson(['info', target])).toMatchObject({ blockSize: MiB, logicalSectorSize: 512 });
    expect(await qemuCheckComplaint(target, 'vhdx')).toBeUndefined();
  });

  test('azure: a disk that becomes larger leaves its GPT backup behind, as sfdisk says too', async () => {
    const folder = testFolder('profiles');
    const [odd, target, back] = ['odd.raw', 'odd.vhd', 'back.raw'].map((name) => path.join(folder, name));
    if (odd === undefined || target === undefined || back === undefined) throw new Error('three paths');
    writeFileSync(odd, '');
    truncateSync(odd, 32 * MiB + 70 * 512);
    await must('sfdisk', ['--quiet', odd], { input: 'label: gpt\nstart=2048, size=4096\n' });
    const { warnings } = await convertFor('azure', odd, target);
    expect(warnings.map(({ code }) => code)).toEqual(['PROFILE_SIZE_ROUNDED', 'AZURE_GPT_BACKUP']);
    expect(await findings('azure', target)).toEqual({ status: 0, codes: ['AZURE_GPT_BACKUP'] });
    const result = await vhdkit(['convert', target, back]);
    expect(result.status).toBe(0);
    const says = await run('sfdisk', ['--list', back]);
    expect(`${says.stdout}${says.stderr}`).toMatch(/backup GPT table is not on the end/i);
    // The hint that the rule gives.
    await must('sfdisk', ['--relocate', 'gpt-bak-std', back]);
    const mended = path.join(folder, 'mended.vhd');
    expect((await convertFor('azure', back, mended)).warnings).toEqual([]);
  });

  test('a disk with an MBR is for generation 1', async () => {
    const folder = testFolder('profiles');
    const mbr = path.join(folder, 'mbr.raw');
    writeFileSync(mbr, '');
    truncateSync(mbr, 32 * MiB);
    await must('sfdisk', ['--quiet', mbr], { input: 'label: dos\nstart=2048, size=4096, type=83\n' });
    const { warnings } = await convertFor('azure', mbr, path.join(folder, 'mbr.vhd'));
    expect(warnings.map(({ code }) => code)).toEqual(['AZURE_GENERATION_1_ONLY']);
  });
});

const lacksQemu = lacking('qemu-img');

describe.skipIf(lacksQemu)(`images of qemu-img${lacksQemu}`, () => {
  test.each([
    [
      'a VHD whose size was rounded to cylinders',
      ['-O', 'vpc', '-o', 'subformat=fixed'],
      'AZURE_SIZE_NOT_MIB',
    ],
    ['a dynamic VHD', ['-O', 'vpc', '-o', 'force_size=on'], 'AZURE_TYPE'],
    ['a VHDX', ['-O', 'vhdx'], 'AZURE_FORMAT'],
  ])('azure refuses %s', async (_name, args, code) => {
    const folder = testFolder('profiles');
    const [raw, image] = [path.join(folder, 'disk.raw'), path.join(folder, 'image')];
    writeFileSync(raw, '');
    truncateSync(raw, 100 * MiB);
    await must('qemu-img', ['convert', '-f', 'raw', ...args, raw, image]);
    const { status, codes } = await findings('azure', image);
    expect(status).toBe(2);
    expect(codes).toContain(code);
  });
});

const lacksMke2fs = lacking('mke2fs');

test.skipIf(lacksMke2fs)(`wsl: a whole disk of ext4 is as it should be${lacksMke2fs}`, async () => {
  const folder = testFolder('profiles');
  const [raw, target] = [path.join(folder, 'root.raw'), path.join(folder, 'ext4.vhdx')];
  await must('mke2fs', ['-q', '-t', 'ext4', raw, '64M']);
  expect((await convertFor('wsl', raw, target)).warnings).toEqual([]);
  expect(await findings('wsl', target)).toEqual({ status: 0, codes: [] });
});

describe('the package without its development packages', () => {
  const script = `
    import { check, convert, hash, systemHost } from './dist/index.js';
    const host = systemHost();
    const result = await convert(host, { source: 'disk.raw', target: 'disk.vhd', profile: 'xenserver', verify: true });
    const found = await check(host, { path: 'disk.vhd', profile: 'xenserver' });
    const { sha256 } = await hash(host, { path: 'disk.vhd' });
    console.log(JSON.stringify({ reader: result.verified.reader, same: sha256 === result.sha256, found: found.findings }));
  `;

  test('verifies with vhd-lib, as a library and on the command line', async () => {
    const folder = testFolder('package');
    for (const name of ['bin', 'dist', 'package.json', 'oclif.manifest.json'])
      cpSync(path.join(PROJECT_ROOT, name), path.join(folder, name), { recursive: true });
    mkdirSync(path.join(folder, 'node_modules'));
    writeFileSync(path.join(folder, 'disk.raw'), Buffer.alloc(4 * MiB, 'x'));
    writeFileSync(path.join(folder, 'script.mjs'), script);
    const library = await must(process.execPath, ['script.mjs'], { cwd: folder });
    expect(JSON.parse(library.stdout)).toEqual({ reader: 'vhd-lib', same: true, found: [] });
    const args = ['bin/run.js', 'convert', 'disk.raw', 'again.vhd', '--verify', '--json'];
    const line = await must(process.execPath, args, { cwd: folder });
    expect(JSON.parse(line.stdout)).toMatchObject({ verified: { reader: 'vhd-lib' } });
    expect(readdirSync(path.join(folder, 'node_modules'))).toEqual([]);
  });

  test('vhd-lib is not loaded to start, nor for other formats', async () => {
    const parts = readdirSync(path.join(PROJECT_ROOT, 'dist/cli/parts'));
    const chunk = parts.filter((name) => name.startsWith('verify-vhd-lib-'));
    expect(chunk).toHaveLength(1);
    expect(existsSync(path.join(PROJECT_ROOT, 'dist/cli/parts', chunk[0] ?? ''))).toBe(true);
    const folder = testFolder('package');
    for (const name of ['bin', 'dist', 'package.json', 'oclif.manifest.json'])
      cpSync(path.join(PROJECT_ROOT, name), path.join(folder, name), { recursive: true });
    writeFileSync(
      path.join(folder, 'dist/cli/parts', chunk[0] ?? ''),
      'throw new Error("vhd-lib was loaded");',
    );
    writeFileSync(path.join(folder, 'disk.raw'), Buffer.alloc(4 * MiB, 'x'));
    const cli = (...args: string[]) => run(process.execPath, ['bin/run.js', ...args], { cwd: folder });
    expect(await cli('convert', 'disk.raw', 'disk.vhdx', '--verify')).toMatchObject({ status: 0 });
    expect(await cli('convert', 'disk.raw', 'plain.vhd')).toMatchObject({ status: 0 });
    expect(await cli('check', 'plain.vhd')).toMatchObject({ status: 0 });
    const verified = await cli('convert', 'disk.raw', 'disk.vhd', '--verify');
    expect(verified.stderr).toContain('vhd-lib was loaded');
  });
});

test('Ctrl-C ends hashing, also of a hole', async () => {
  const raw = path.join(testFolder('profiles'), 'hole.raw');
  writeFileSync(raw, '');
  truncateSync(raw, 2 ** 42);
  const child = spawn(process.execPath, ['bin/run.js', 'hash', raw, '--progress', 'json'], {
    cwd: PROJECT_ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr.once('data', () => child.kill('SIGINT'));
  child.stderr.resume();
  const status = await new Promise((resolve) => child.on('close', resolve));
  expect(status).toBe(130);
});

/** `convert --for`: what is chosen, what is refused, what is said. */
import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { check } from '../../../../src/operations/check.js';
import { type ConvertOptions, type ConvertResult, convert } from '../../../../src/operations/convert.js';
import { systemHost } from '../../../../src/operations/host.js';
import { withProfile } from '../../../../src/operations/profiles/apply.js';
import { PROFILES } from '../../../../src/operations/profiles/profiles.js';
import type { ProfileName } from '../../../../src/operations/profiles/rule.js';
import { testFolder } from '../../../support/tmp.js';

const MiB = 1024 ** 2;
const TiB = 1024 ** 4;
const host = systemHost();

function rawDisk(size: number): string {
  const file = path.join(testFolder('profile'), 'disk.raw');
  writeFileSync(file, 'the first bytes');
  truncateSync(file, size);
  return file;
}

function convertFor(
  profile: ProfileName,
  source: string,
  options: Partial<ConvertOptions> = {},
): Promise<ConvertResult> {
  const target = path.join(testFolder('profile'), 'out');
  return convert(host, { source, target, profile, ...options });
}

describe('choices', () => {
  test.each([
    ['azure', { to: 'vhd', type: 'fixed' }],
    ['hyperv', { to: 'vhdx', type: 'dynamic' }],
    ['xenserver', { to: 'vhd', type: 'dynamic', blockSize: 2 * MiB }],
    ['virtualbox', { to: 'vhd', type: 'dynamic', blockSize: 2 * MiB }],
    ['wsl', { to: 'vhdx', type: 'dynamic', blockSize: MiB, sectorSize: 512 }],
  ] as const)('%s', (profile, chosen) => {
    expect(withProfile({ target: 'out', profile })).toEqual({ target: 'out', profile, ...chosen });
  });

  test('none without a profile', () => {
    const asked = { target: 'out.raw', type: 'fixed' as const };
    expect(withProfile(asked)).toBe(asked);
  });

  test('what a platform leaves open may be asked for', () => {
    expect(withProfile({ target: 'x.vhd', profile: 'hyperv', type: 'fixed' })).toMatchObject({
      to: 'vhd',
      type: 'fixed',
    });
    expect(withProfile({ target: 'x', profile: 'wsl', blockSize: 8 * MiB }).blockSize).toBe(8 * MiB);
    expect(withProfile({ target: 'x', profile: 'virtualbox', type: 'fixed' })).not.toHaveProperty(
      'blockSize',
    );
  });
});

describe('flags that contradict the profile are refused, naming both', () => {
  test.each([
    [{ profile: 'azure', to: 'vhdx' }, '-O vhdx'],
    [{ profile: 'azure', type: 'dynamic' }, '--type dynamic'],
    [{ profile: 'azure', target: 'disk.vhdx' }, "'disk.vhdx'"],
    [{ profile: 'hyperv', to: 'raw' }, '-O raw'],
    [{ profile: 'xenserver', type: 'fixed' }, '--type fixed'],
    [{ profile: 'xenserver', blockSize: 4 * MiB }, `--block-size ${4 * MiB}`],
    [{ profile: 'virtualbox', to: 'vhdx' }, '-O vhdx'],
    [{ profile: 'wsl', to: 'vhd' }, '-O vhd'],
    [{ profile: 'wsl', sectorSize: 4096 }, '--sector-size 4096'],
  ] as const)('%j', (flags, named) => {
    const attempt = (): unknown => withProfile({ target: 'out', ...flags });
    expect(attempt).toThrow(named);
    expect(attempt).toThrow(`--for ${flags.profile}`);
    expect(attempt).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});

describe('sizes', () => {
  test.each([
    ['azure', MiB],
    ['xenserver', 2 * MiB],
    ['virtualbox', MiB],
    ['hyperv', 512],
    ['wsl', 512],
  ] as const)('%s: multiples of %i, zeros at the end, said', async (profile, unit) => {
    const size = 33 * MiB + 700;
    const result = await convertFor(profile, rawDisk(size), { verify: true });
    const expected = Math.ceil(size / unit) * unit;
    expect(result.virtualSize).toBe(expected);
    const note = result.warnings.find(({ code }) => code === 'PROFILE_SIZE_ROUNDED');
    expect(note).toMatchObject({ severity: 'note' });
    expect(note?.message).toContain(` ${expected - size} zeros`);
  });

  test('that fit are not touched, and nothing is said', async () => {
    const result = await convertFor('azure', rawDisk(40 * MiB));
    expect(result.virtualSize).toBe(40 * MiB);
    expect(result.warnings).toEqual([]);
  });
});

describe('what the platform rejects is not made', () => {
  test.each([
    ['azure', MiB, 'UNSUPPORTED', 'AZURE_TOO_SMALL'],
    ['azure', 15 * TiB, undefined, undefined],
    ['xenserver', 3 * TiB, 'TARGET_TOO_SMALL', 'XENSERVER_TOO_LARGE'],
    ['virtualbox', 3 * TiB, 'TARGET_TOO_SMALL', 'VIRTUALBOX_TOO_LARGE'],
  ] as const)('%s with %i bytes', async (profile, size, code, defect) => {
    const attempt = convertFor(profile, rawDisk(size), { dryRun: true });
    if (code === undefined)
      expect((await attempt).warnings).toMatchObject([{ code: 'AZURE_DATA_DISK_ONLY' }]);
    else await expect(attempt).rejects.toMatchObject({ code, context: { defect, profile } });
  });

  test('and nothing is left of the attempt', async () => {
    const folder = testFolder('profile');
    const target = path.join(folder, 'out.vhd');
    await expect(convertFor('azure', rawDisk(MiB), { target })).rejects.toThrow('20 MiB');
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('the result passes the check of its own profile', () => {
  const names = Object.keys(PROFILES) as ProfileName[];
  test.each(names)('%s', async (profile) => {
    const target = path.join(testFolder('profile'), 'out');
    await convertFor(profile, rawDisk(41 * MiB + 512), { target });
    const { verdict, findings } = await check(host, { path: target, profile });
    expect(verdict).toBe('clean');
    // The disk has no contents to speak of.
    const expected = profile === 'wsl' ? ['WSL_NOT_EXT4'] : [];
    expect(findings.map(({ code }) => code)).toEqual(expected);
  });
});

test('a stream: the plan is the same', async () => {
  const written: Buffer[] = [];
  const output = { write: async (bytes: Uint8Array) => void written.push(Buffer.from(bytes)) };
  const source = rawDisk(20 * MiB + 512);
  const { virtualSize, fileSize } = await convertFor('azure', source, { target: '-', output });
  expect(virtualSize).toBe(21 * MiB);
  expect(fileSize).toBe(21 * MiB + 512);
  const bytes = Buffer.concat(written);
  expect(bytes.length).toBe(fileSize);
  expect(bytes.toString('latin1', 21 * MiB, 21 * MiB + 8)).toBe('conectix');
});

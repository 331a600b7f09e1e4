/** `hash`, `check`, `convert --verify` and `--for` as scripts see them: output and exit codes. */
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { sha256Sync } from '../support/content.js';
import { fixture, fixtures } from '../support/fixtures.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { must } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
let folder: string;
const at = (name: string): string => path.join(folder, name);

beforeAll(async () => {
  folder = makeTempFolder('check-cli');
  const disk = Buffer.alloc(24 * MiB + 512);
  seededBytes(3 * MiB, 5).copy(disk, 4 * MiB);
  writeFileSync(at('disk.raw'), disk);
  for (const name of ['disk.vhd', 'disk.vhdx']) {
    const result = await vhdkit(['convert', at('disk.raw'), at(name)]);
    if (result.status !== 0) throw new Error(result.stderr);
  }
});

/** A copy of the dynamic VHD with one entry of its block table changed. */
function withBatEntry(block: number, value: number): string {
  const file = path.join(testFolder('check-cli'), 'changed.vhd');
  const bytes = readFileSync(at('disk.vhd'));
  bytes.writeUInt32BE(value, Number(bytes.readBigUInt64BE(512 + 16)) + block * 4);
  writeFileSync(file, bytes);
  return file;
}

describe('hash', () => {
  test('prints what sha256sum prints for the raw image', async () => {
    const { stdout } = await must('sha256sum', [at('disk.raw')]);
    const result = await vhdkit(['hash', at('disk.raw')]);
    expect(result).toMatchObject({ status: 0, stdout, stderr: '' });
  });

  test.each(['disk.raw', 'disk.vhd', 'disk.vhdx'])('%s, as JSON', async (name) => {
    expect(await vhdkitJson(['hash', at(name)])).toEqual({
      schemaVersion: 1,
      path: at(name),
      format: path.extname(name).slice(1),
      virtualSize: 24 * MiB + 512,
      sha256: sha256Sync(at('disk.raw')),
    });
  });

  test('an explicit format is obeyed: a VHD as a raw disk is the file', async () => {
    const { sha256 } = await vhdkitJson(['hash', '-f', 'raw', at('disk.vhdx')]);
    expect(sha256).toBe(sha256Sync(at('disk.vhdx')));
  });

  test('a chain', async () => {
    const child = fixtures().find(({ file }) => file === 'child-partial.vhdx');
    expect((await vhdkitJson(['hash', fixture('child-partial.vhdx')])).sha256).toBe(child?.contentSha256);
  });

  test('progress as JSON lines', async () => {
    const { stderr, stdout } = await vhdkit(['hash', at('disk.raw'), '--progress', 'json']);
    expect(stdout).toMatch(/^[0-9a-f]{64} {2}/);
    const last = JSON.parse(stderr.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
    expect(last).toMatchObject({ transferred: 24 * MiB + 512, description: 'Hashing' });
  });
});

describe('exit codes of check', () => {
  test.each([
    ['0: no errors', () => [at('disk.vhdx')], 0],
    ['0: warnings only', () => [fixture('dirty-log.vhdx')], 0],
    ['1: no such file', () => [at('nothing')], 1],
    ['1: a folder', () => [folder], 1],
    ['2: an entry outside the file', () => [withBatEntry(3, 0x00ffffff)], 2],
    ['2: a platform rejects it', () => [at('disk.vhd'), '--profile', 'azure'], 2],
    ['3: leaked space', () => [withBatEntry(3, 0xffffffff)], 3],
    ['63: a raw image', () => [at('disk.raw')], 63],
    ['64: no such profile', () => [at('disk.vhd'), '--profile', 'aws'], 64],
    ['64: no such repair', () => [at('disk.vhd'), '--repair', 'some'], 64],
  ] as const)('%s', async (_title, args, status) => {
    const result = await vhdkit(['check', ...args()]);
    expect(result.status, `${result.stdout}${result.stderr}`).toBe(status);
    if (status === 0 || status === 2 || status === 3) expect(result.stderr).toBe('');
    else expect(result.stdout).toBe('');
  });

  test('2 when the image can not be opened at all', async () => {
    const file = path.join(testFolder('check-cli'), 'cut.vhdx');
    copyFileSync(at('disk.vhdx'), file);
    truncateSync(file, 128 * 1024);
    const { status, stdout } = await vhdkit(['check', file, '--json']);
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ schemaVersion: 1, format: null, verdict: 'corrupt' });
  });

  test('quiet says it by the exit code alone', async () => {
    const result = await vhdkit(['check', '-q', withBatEntry(3, 0xffffffff)]);
    expect(result).toMatchObject({ status: 3, stdout: '', stderr: '' });
  });
});

describe('output of check', () => {
  test('a line for each finding: severity, code, place, meaning, what to do', async () => {
    const file = withBatEntry(3, 0x00ffffff);
    const { stdout } = await vhdkit(['check', file]);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^error VHD_BAT_ENTRY_OUTSIDE_FILE at \d+: .+\. Restore the image/);
    expect(lines.at(-1)).toBe(`${file}: damaged`);
  });

  test('a rule comes with reason and source', async () => {
    const { stdout } = await vhdkit(['check', at('disk.vhdx'), '--profile', 'azure']);
    expect(stdout).toMatch(/^error AZURE_FORMAT: .* \[Microsoft Learn, .*\]$/m);
    expect(stdout).toContain(`${at('disk.vhdx')}: not fit for azure`);
  });

  test('as JSON, in the documented shape', async () => {
    const result = await vhdkit(['check', withBatEntry(3, 0xffffffff), '--json']);
    const document = JSON.parse(result.stdout) as { findings: Record<string, unknown>[]; repaired: unknown };
    expect(document.repaired).toEqual([]);
    const faults = document.findings.filter(({ severity }) => severity !== 'note');
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatchObject({ code: 'VHD_UNUSED_SPACE', severity: 'leak', repairable: true });
    expect(faults[0]).toHaveProperty('offset');
    expect(faults[0]).toHaveProperty('message');
  });
});

describe('convert --verify', () => {
  test.each([
    ['vhd', 'dynamic', 'vhd-lib'],
    ['vhd', 'fixed', 'vhdkit'],
    ['vhdx', 'dynamic', 'vhdkit'],
  ])('%s, %s: the digest and the reader', async (format, type, reader) => {
    const target = path.join(testFolder('check-cli'), `out.${format}`);
    const result = await vhdkitJson(['convert', at('disk.raw'), target, '--type', type, '--verify']);
    expect(result).toMatchObject({ sha256: sha256Sync(at('disk.raw')), verified: { reader } });
  });

  test('as text', async () => {
    const target = path.join(testFolder('check-cli'), 'out.vhd');
    const { stdout } = await vhdkit(['convert', at('disk.raw'), target, '--verify']);
    expect(stdout).toMatch(/^ {2}verified +read back with vhd-lib.*, equal to the source$/m);
    expect(stdout).toMatch(/^ {2}sha256 +[0-9a-f]{64}$/m);
  });

  test('from stdin: it is spooled, which is said, and compared', async () => {
    const target = path.join(testFolder('check-cli'), 'out.vhd');
    const args = [
      'convert',
      '-',
      target,
      '-f',
      'raw',
      '--size',
      String(24 * MiB + 512),
      '--verify',
      '--json',
    ];
    const result = await vhdkit(args, { input: readFileSync(at('disk.raw')) });
    expect(result.status, result.stderr).toBe(0);
    expect(JSON.parse(result.stdout)).toMatchObject({ sha256: sha256Sync(at('disk.raw')) });
  });

  test('to stdout there is nothing to read back', async () => {
    const result = await vhdkit(['convert', at('disk.raw'), '-', '-O', 'vhd', '--verify']);
    expect(result.status).toBe(64);
    expect(result.stderr).toContain('vhdkit compare');
  });
});

describe('convert --for', () => {
  test('flags that contradict it are wrong usage, both named', async () => {
    const target = path.join(testFolder('check-cli'), 'out.vhd');
    const { status, stderr } = await vhdkit([
      'convert',
      at('disk.raw'),
      target,
      '--for',
      'azure',
      '--type',
      'dynamic',
    ]);
    expect(status).toBe(64);
    expect(stderr).toContain('--type dynamic');
    expect(stderr).toContain('--for azure');
  });

  test('a larger disk is said on stderr', async () => {
    const target = path.join(testFolder('check-cli'), 'out.vhd');
    const { status, stderr } = await vhdkit(['convert', at('disk.raw'), target, '--for', 'azure']);
    expect(status).toBe(0);
    expect(stderr).toContain(
      `note PROFILE_SIZE_ROUNDED: the disk of ${24 * MiB + 512} bytes gets ${MiB - 512} zeros`,
    );
  });

  test('to stdout no -O is needed', async () => {
    const result = await vhdkit(['convert', at('disk.raw'), '-', '--for', 'azure']);
    expect(result.status).toBe(0);
    expect(result.output.length).toBe(25 * MiB + 512);
    expect(result.output.toString('latin1', 25 * MiB, 25 * MiB + 8)).toBe('conectix');
  });
});

/** The commands on small images, made by the command line itself. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { lacking } from '../support/requires.js';
import { must, vhdkit, vhdkitJson } from '../support/run.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
let folder: string;
/** 8 MiB: one of zeros, one of pattern, six of zeros. */
const content = Buffer.alloc(8 * MiB);
const at = (name: string): string => path.join(folder, name);

beforeAll(async () => {
  folder = makeTempFolder('cli');
  for (let i = MiB; i < 2 * MiB; i += 1) content[i] = 1 + (i % 251);
  writeFileSync(at('a.raw'), content);
  await must(process.execPath, ['bin/run.js', 'convert', at('a.raw'), at('a.vhdx')]);
  await must(process.execPath, ['bin/run.js', 'convert', at('a.raw'), at('a.vhd')]);
});

describe('info', () => {
  test('as JSON, in the documented shape', async () => {
    const info = await vhdkitJson(['info', at('a.vhdx')]);
    expect(info).toMatchObject({
      schemaVersion: 1,
      path: at('a.vhdx'),
      format: 'vhdx',
      type: 'dynamic',
      virtualSize: 8 * MiB,
      logicalSectorSize: 512,
      log: 'clean',
      fragmentation: { percent: 0, extents: 1 },
    });
    for (const key of [
      'fileSize',
      'allocatedBytes',
      'blockSize',
      'physicalSectorSize',
      'id',
      'payloadAlignment',
    ])
      expect(info).toHaveProperty(key);
  });

  test('as text: sizes for people and in bytes', async () => {
    const { stdout, stderr } = await vhdkit(['info', at('a.vhd')]);
    expect(stdout).toMatch(/^ {2}format +VHD, dynamic$/m);
    expect(stdout).toMatch(/^ {2}virtual size +8 MiB \(8388608 bytes\)$/m);
    expect(stderr).toBe('');
    expect(stdout).not.toContain('\u001b');
  });

  test('coloured on demand', async () => {
    expect((await vhdkit(['info', at('a.vhd'), '--color'])).stdout).toContain('\u001b[');
    expect(
      (await vhdkit(['info', at('a.vhd'), '--no-color'], { env: { FORCE_COLOR: '1' } })).stdout,
    ).not.toContain('\u001b[');
  });

  test('a file that is not there: where and what to do, exit 1', async () => {
    const { status, stdout, stderr } = await vhdkit(['info', at('gone.vhdx')]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toContain(at('gone.vhdx'));
    expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(3);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test('--debug adds the stack trace', async () => {
    expect((await vhdkit(['info', at('gone.vhdx'), '--debug'])).stderr).toMatch(/^\s+at /m);
  });
});

describe('create', () => {
  test.each([
    ['x.vhdx', [], 'vhdx', 'dynamic'],
    ['x.vhd', ['--type', 'fixed'], 'vhd', 'fixed'],
    ['x.img', [], 'raw', 'fixed'],
    ['x.unknown', ['-O', 'vpc'], 'vhd', 'dynamic'],
  ])('%s %j', async (name, flags, format, type) => {
    const target = path.join(testFolder(), name);
    const result = await vhdkitJson(['create', target, '10M', ...flags]);
    expect(result).toMatchObject({ schemaVersion: 1, path: target, format, type, virtualSize: 10 * MiB });
    expect(await vhdkitJson(['info', target])).toMatchObject({ format, type, virtualSize: 10 * MiB });
  });

  test('refuses to overwrite, unless forced', async () => {
    const target = path.join(testFolder(), 'x.vhdx');
    await vhdkitJson(['create', target, '10M']);
    const again = await vhdkit(['create', target, '20M']);
    expect(again.status).toBe(1);
    expect(again.stderr).toContain('--force');
    expect(await vhdkitJson(['create', target, '20M', '--force'])).toMatchObject({ virtualSize: 20 * MiB });
  });

  test('-q says nothing', async () => {
    const { stdout, stderr } = await vhdkit(['create', path.join(testFolder(), 'x.vhd'), '10M', '-q']);
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: '' });
  });
});

describe('convert', () => {
  test('as JSON: every byte accounted for', async () => {
    const target = path.join(testFolder(), 'b.vhd');
    const result = await vhdkitJson(['convert', at('a.vhdx'), target]);
    expect(result).toMatchObject({
      schemaVersion: 1,
      from: 'vhdx',
      to: 'vhd',
      virtualSize: 8 * MiB,
      dryRun: false,
    });
    const bytes = result.bytes as Record<string, number>;
    expect(Object.keys(bytes).sort()).toEqual(['buffered', 'kernelCopied', 'shared', 'zeroed']);
    expect(Object.values(bytes).reduce((sum, value) => sum + value, 0)).toBe(8 * MiB);
    expect(result.elapsedMs).toBeGreaterThanOrEqual(0);
  });

  test('--dry-run says what would be done and leaves nothing', async () => {
    const target = testFolder();
    const { status, stdout } = await vhdkit([
      'convert',
      at('a.vhdx'),
      path.join(target, 'b.vhd'),
      '--dry-run',
      '-q',
    ]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^Would convert /);
    expect(readdirSync(target)).toEqual([]);
  });

  test('--progress json: lines on stderr up to the end, one document on stdout', async () => {
    const target = path.join(testFolder(), 'b.raw');
    const { stdout, stderr } = await vhdkit([
      'convert',
      at('a.vhdx'),
      target,
      '--progress',
      'json',
      '--json',
    ]);
    expect(JSON.parse(stdout)).toMatchObject({ to: 'raw' });
    const lines = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.at(-1)).toMatchObject({ transferred: 8 * MiB, size: 8 * MiB, description: 'Converting' });
    const fields = ['transferred', 'size', 'elapsed', 'description', 'work', 'rate', 'remaining'];
    for (const line of lines) expect(Object.keys(line)).toEqual(fields);
  });

  test('no progress without a terminal, and none with -q', async () => {
    const target = testFolder();
    expect((await vhdkit(['convert', at('a.vhd'), path.join(target, 'b.raw')])).stderr).toBe('');
    const quiet = await vhdkit([
      'convert',
      at('a.vhd'),
      path.join(target, 'c.raw'),
      '-q',
      '--progress',
      'plain',
    ]);
    expect(quiet).toMatchObject({ stdout: '', stderr: '' });
  });
});

describe('map', () => {
  test('as JSON: in order, covering the disk exactly', async () => {
    const map = await vhdkitJson(['map', at('a.vhdx')]);
    expect(map).toMatchObject({ schemaVersion: 1, virtualSize: 8 * MiB });
    const extents = map.extents as {
      offset: number;
      length: number;
      state: string;
      file?: string;
      depth: number;
    }[];
    let next = 0;
    for (const extent of extents) {
      expect(extent.offset).toBe(next);
      expect(['data', 'zero', 'absent']).toContain(extent.state);
      expect(extent.file).toBe(extent.state === 'data' ? at('a.vhdx') : undefined);
      next += extent.length;
    }
    expect(next).toBe(8 * MiB);
  });

  test('as text: the extents, the picture and the legend', async () => {
    const { stdout } = await vhdkit(['map', at('a.vhd')], { env: { LC_ALL: 'C.UTF-8' } });
    expect(stdout).toMatch(/^ +0 +2097152 +2 MiB +data +0 +\d+ +.*a\.vhd$/m);
    expect(stdout).toContain('│█···│');
    expect(stdout).toContain('[█] data  [·] zero');
  });

  test('--svg writes a picture and does not overwrite one', async () => {
    const svg = path.join(testFolder(), 'a.svg');
    expect((await vhdkit(['map', at('a.vhdx'), '--svg', svg])).status).toBe(0);
    const picture = readFileSync(svg, 'utf8');
    expect(picture).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    const again = await vhdkit(['map', at('a.vhd'), '--svg', svg, '--json']);
    expect(again.status).toBe(1);
    expect(readFileSync(svg, 'utf8')).toBe(picture);
    expect((await vhdkit(['map', at('a.vhd'), '--svg', svg, '--force'])).status).toBe(0);
  });
});

describe('compare', () => {
  test('0 for the same, whatever the format', async () => {
    expect(await vhdkitJson(['compare', at('a.vhdx'), at('a.vhd')])).toEqual({
      schemaVersion: 1,
      same: true,
    });
  });

  test('1 and the place for a difference; -q only the code', async () => {
    const other = path.join(testFolder(), 'b.raw');
    const changed = Buffer.from(content);
    changed[MiB + 5] = 0;
    writeFileSync(other, changed);
    const result = await vhdkit(['compare', at('a.vhdx'), other, '--json']);
    expect(result.status).toBe(1);
    expect(JSON.parse(result.stdout)).toMatchObject({
      same: false,
      firstDifference: { offset: MiB + 5, kind: 'content' },
    });
    expect(await vhdkit(['compare', at('a.vhdx'), other, '-q'])).toMatchObject({
      status: 1,
      stdout: '',
      stderr: '',
    });
  });

  test('2 when an image cannot be opened', async () => {
    expect((await vhdkit(['compare', at('a.vhdx'), at('gone')])).status).toBe(2);
  });
});

describe('read', () => {
  test('the bytes, and nothing else', async () => {
    const { output, stderr } = await vhdkit(['read', at('a.vhdx')]);
    expect(output.equals(content)).toBe(true);
    expect(stderr).toBe('');
  });

  test('a part', async () => {
    const { output } = await vhdkit(['read', at('a.vhd'), '--offset', '1M', '--length', '1K']);
    expect(output.equals(content.subarray(MiB, MiB + 1024))).toBe(true);
  });

  test('a range outside the disk', async () => {
    const { status, stdout, stderr } = await vhdkit(['read', at('a.vhd'), '--offset', '1G', '--length', '1']);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toContain('offset 1073741824');
  });
});

const lacks = lacking('qemu-img');
describe.skipIf(lacks)(`images of qemu-img${lacks}`, () => {
  test.each([
    ['vpc', 'vhd'],
    ['vhdx', 'vhdx'],
  ])('%s', async (theirs, ours) => {
    const image = path.join(testFolder(), `q.${ours}`);
    await must('qemu-img', [
      'convert',
      '-f',
      'raw',
      '-O',
      theirs,
      ...(theirs === 'vpc' ? ['-o', 'force_size'] : []),
      at('a.raw'),
      image,
    ]);
    expect(await vhdkitJson(['info', image])).toMatchObject({ format: ours, virtualSize: 8 * MiB });
    expect((await vhdkit(['compare', image, at('a.raw')])).status).toBe(0);
  });
});

/** `vhdkit resize` and `vhdkit convert --in-place` as people and scripts use them. */
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { seededBytes } from '../support/sample-disk.js';
import { testFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;

let raw: string;

beforeEach(() => {
  raw = path.join(testFolder(), 'disk.raw');
  writeFileSync(raw, seededBytes(2 * MiB, 1));
  truncateSync(raw, 8 * MiB);
});

describe('resize', () => {
  test.each([
    ['16M', 16 * MiB],
    ['+1M', 9 * MiB],
    ['-5M', 3 * MiB],
    ['+0', 8 * MiB],
  ])('takes %s', async (size, bytes) => {
    expect(await vhdkitJson(['resize', raw, size])).toEqual({
      schemaVersion: 1,
      path: raw,
      format: 'raw',
      type: 'fixed',
      oldSize: 8 * MiB,
      virtualSize: bytes,
      fileSize: bytes,
      table: 'none',
      gptBackup: null,
      lost: [],
      dryRun: false,
      elapsedMs: expect.any(Number),
      warnings: [],
    });
    expect(statSync(raw).size).toBe(bytes);
  });

  test('refuses to lose data, and says what --shrink would cost', async () => {
    const refused = await vhdkit(['resize', raw, '1M']);
    expect(refused).toMatchObject({ status: 1, stdout: '' });
    expect(refused.stderr).toContain('there is data behind the new end (at byte 1048576)');
    expect(refused.stderr).toContain('--shrink');
    const dry = await vhdkit(['resize', raw, '1M', '--shrink', '--dry-run']);
    expect(dry.status).toBe(0);
    expect(dry.stdout).toMatch(/^Would shrink: .*disk\.raw \(raw, fixed\)\n {2}virtual size .* was 8 MiB\n/);
    expect(dry.stdout).toContain('would cut off    7 MiB (7340032 bytes) of data, from byte 1048576 on');
    expect(dry.stderr).toContain('warning RESIZE_CUT');
    expect(statSync(raw).size).toBe(8 * MiB);
    expect((await vhdkit(['resize', raw, '1M', '--shrink', '--quiet'])).stdout).toBe('');
    expect(readFileSync(raw).equals(seededBytes(2 * MiB, 1).subarray(0, MiB))).toBe(true);
  });

  test('of what others depend on says who they are', async () => {
    const folder = path.dirname(raw);
    const [base, child] = [path.join(folder, 'base.vhdx'), path.join(folder, 'child.vhdx')];
    await vhdkitJson(['convert', raw, base]);
    await vhdkitJson(['create', child, '--type', 'differencing', '--parent', base]);
    const result = await vhdkit(['resize', base, '+1G', '--json']);
    const { error } = JSON.parse(result.stdout) as { error: { code: string; context: object } };
    expect(error).toMatchObject({ code: 'IN_USE', context: { children: [child] } });
    expect(await vhdkitJson(['resize', child, '+1G'])).toMatchObject({ virtualSize: 1024 * MiB + 8 * MiB });
    expect((await vhdkit(['compare', raw, child])).status).toBe(0);
  });

  test.each([
    ['1Q', "Not a size: '1Q'"],
    ['--', 'Missing argument: SIZE'],
    ['+', "Not a size: ''"],
    ['3000001', 'not whole sectors of 512 bytes'],
    ['-1G', 'is not possible'],
  ])('%s is wrong usage', async (size, text) => {
    const { status, stderr } = await vhdkit(['resize', raw, size]);
    expect({ status, stderr }).toEqual({ status: 64, stderr: expect.stringContaining(text) });
  });
});

describe('convert --in-place', () => {
  test('says what became of the storage', async () => {
    writeFileSync(raw, Buffer.concat([seededBytes(2 * MiB, 1), Buffer.alloc(6 * MiB)]));
    const { stdout } = await vhdkit(['convert', raw, '--in-place', '--type', 'dynamic']);
    expect(stdout).toMatch(/^Converted .*disk\.raw \(raw\) in place to dynamic\n/);
    expect(stdout).toContain('zeros given back  6 MiB (6291456 bytes)');
    const result = await vhdkitJson(['convert', raw, '--in-place', '--type', 'fixed', '--dry-run']);
    expect(result).toMatchObject({ format: 'raw', type: 'fixed', means: 'sameFile', dryRun: true });
    expect(result.before).toEqual(result.after);
  });

  test.each([
    [['--in-place'], '--in-place needs --type'],
    [['--in-place', '--type', 'fixed', '--verify'], '--in-place does not go with --verify'],
    [['b.vhd', '--in-place', '--type', 'fixed'], '--in-place does not go with a TARGET'],
    [['--type', 'fixed'], 'Missing argument: TARGET'],
  ])('%j is wrong usage', async (args, text) => {
    const { status, stderr } = await vhdkit(['convert', raw, ...args]);
    expect({ status, stderr }).toEqual({ status: 64, stderr: expect.stringContaining(text) });
  });
});

/** Wrong usage: exit code 64, one to three lines on stderr, nothing on stdout. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { vhdkit } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

async function usageError(args: string[]): Promise<string> {
  const { status, stdout, stderr } = await vhdkit(args);
  expect({ args, status, stdout }).toEqual({ args, status: 64, stdout: '' });
  const lines = stderr.trimEnd().split('\n');
  expect(lines.length).toBeGreaterThanOrEqual(2);
  expect(lines.length).toBeLessThanOrEqual(3);
  expect(lines[0]).toMatch(/^Error: /);
  expect(lines.at(-1)).toMatch(/^ {2}hint: /);
  return stderr;
}

describe('what oclif refuses', () => {
  test.each([
    [['info'], 'Missing argument: IMAGE'],
    [['convert', 'a.vhd'], 'Missing argument: TARGET'],
    [['info', 'a', 'b'], 'Unexpected argument: b'],
    [['info', 'a', '--frobnicate'], 'Unknown flag: --frobnicate'],
    [['convert', 'a', 'b', '--profile', 'azure'], '--for (convert)'],
    [['create', 'a.vhdx', '1G', '--parent', 'b'], '--parent goes with --type differencing'],
    [['convert', 'a', 'b', '--provider', 'magic'], '--provider=magic to be one of'],
    [['info', 'a', '-f', 'qcow2'], "Unknown format 'qcow2'"],
    [['info', 'a', '-f'], '--from expects a value'],
    [['create', 'a.vhd', 'large'], "Not a size: 'large'"],
    [['create', 'a.vhd', '1G', '--block-size', '2Q'], "Error: --block-size: Not a size: '2Q'\n"],
    [['create', 'a.vhd', '1G', '--sector-size', '1024'], '--sector-size=1024 to be one of'],
    [['token', 'read', 'a', '-o', 't', '--priority', '101'], 'Error: --priority: Expected an integer'],
    [['info', 'a', '--progress', 'loud'], '--progress=loud to be one of'],
  ])('%j', async (args, text) => {
    expect(await usageError(args)).toContain(text);
  });
});

describe('what we refuse', () => {
  test.each([
    [['create', 'a.vhdx'], 'Missing argument: SIZE'],
    [['create', 'noextension', '1G'], 'Add -O raw, -O vhd or -O vhdx'],
  ])('%j', async (args, text) => {
    expect(await usageError(args)).toContain(text);
  });

  test('a target whose name says no format', async () => {
    const folder = testFolder();
    const source = path.join(folder, 'a.raw');
    writeFileSync(source, Buffer.alloc(4096));
    expect(await usageError(['convert', source, path.join(folder, 'b')])).toContain('-O');
  });
});

describe('commands that do not exist', () => {
  test.each([
    [['Convert-VHD', 'a', 'b'], 'vhdkit convert'],
    [['Get-VHD'], 'vhdkit info'],
    [['New-VHD', '-Path', 'a.vhdx'], 'vhdkit create'],
    [['dd', 'if=a'], 'vhdkit convert'],
    [['measure'], '--dry-run'],
    [['covnert', 'a', 'b'], 'vhdkit convert'],
    [['Test-VHD', 'a'], 'vhdkit check'],
    [['Optimize-VHD', 'a'], 'vhdkit compact'],
    [['Resize-VHD', 'a'], 'vhdkit resize'],
    [['Merge-VHD', 'a'], 'vhdkit merge'],
    [['commit', 'a'], 'vhdkit merge'],
    [['migrate', 'a'], "'migrate' is not there yet"],
    [['frobnicate'], 'vhdkit --help'],
    [['covnert', '--help'], 'vhdkit convert'],
    [['help', 'replicate'], 'not there yet'],
  ])('%j', async (args, text) => {
    expect(await usageError(args)).toContain(text);
  });
});

test('an argument is never taken from stdin', async () => {
  const { status, stderr } = await vhdkit(['info'], { input: 'a.vhdx' });
  expect(status).toBe(64);
  expect(stderr).toContain('Missing argument: IMAGE');
});

test('read has no JSON form', async () => {
  const { status, stdout } = await vhdkit(['read', 'a.vhd', '--json']);
  expect(status).toBe(64);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'USAGE', operation: 'read' } });
});

test('with --json the error is the document, and stderr stays empty', async () => {
  const { status, stdout, stderr } = await vhdkit(['info', '--frobnicate', '--json']);
  expect({ status, stderr }).toEqual({ status: 64, stderr: '' });
  expect(JSON.parse(stdout)).toEqual({
    schemaVersion: 1,
    error: {
      code: 'USAGE',
      message: 'Unknown flag: --frobnicate',
      operation: 'info',
      context: {},
      hint: 'See `vhdkit info --help`.',
    },
  });
});

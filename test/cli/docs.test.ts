/** docs/cli.md and the examples of --help are held against the program. */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { REFUSAL_REASONS } from '../../src/offload/token-refusal.js';
import { errorCodes } from '../support/error-codes.js';
import { fixture } from '../support/fixtures.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { PROJECT_ROOT, run } from '../support/run.js';
import { makeTempFolder } from '../support/tmp.js';

const page = readFileSync(path.join(PROJECT_ROOT, 'docs/cli.md'), 'utf8');

function section(title: string): string {
  const found = page.split(/^## /m).find((part) => part.startsWith(`${title}\n`));
  if (found === undefined) throw new Error(`docs/cli.md has no section '${title}'`);
  return found;
}

/** Cells of the rows of a section's table, without head and rule. */
function rows(title: string): string[][] {
  const lines = section(title)
    .split('\n')
    .filter((line) => line.startsWith('| '));
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

const unquoted = (cell: string): string => cell.replaceAll('`', '');
const words = (cell: string): string[] => [...cell.matchAll(/`(\w+)`/g)].map(([, word]) => word ?? '');

describe('error codes', () => {
  test('every code is documented, and no other', () => {
    const documented = rows('Error codes').map(([code]) => unquoted(code ?? ''));
    expect(errorCodes.length).toBeGreaterThan(20);
    expect(documented).toEqual([...errorCodes, 'USAGE', 'INTERNAL']);
    for (const [, when] of rows('Error codes')) expect(when?.length).toBeGreaterThan(10);
  });

  test.each([
    [['info', 'no-such-file.vhd'], 'NOT_FOUND'],
    [['convert', fixture('disk.vhdx'), fixture('disk-qemu.vhd')], 'ALREADY_EXISTS'],
    [['info', fixture('.')], 'NOT_A_DISK'],
    [['convert', fixture('disk.vhdx'), 'no-format'], 'INVALID_ARGUMENT'],
    [['read', fixture('disk.vhdx'), '--offset', '1T'], 'OUT_OF_RANGE'],
    [['info', fixture('README.md'), '-f', 'vhdx'], 'IMAGE_CORRUPT'],
    [['convert', fixture('disk.vhdx'), '/dev/null/x.vhd'], 'NOT_FOUND'],
    [['convert'], 'USAGE'],
    [['create', 'x.vhd', '100T', '--dry'], 'USAGE'],
    [['create', 'x.vhd', '3T'], 'TARGET_TOO_SMALL'],
  ])('%j is %s, with the documented exit code and a hint', async (args, code) => {
    const exit = rows('Error codes').find(([name]) => name === `\`${code}\``)?.[2];
    const text = await vhdkit(args);
    expect({ args, status: String(text.status), stdout: text.stdout }).toEqual({
      args,
      status: exit,
      stdout: '',
    });
    expect(text.stderr).toContain('hint: ');
    if (args[0] === 'read') return;
    const { status, stdout } = await vhdkit([...args, '--json']);
    expect(String(status)).toBe(exit);
    const { error } = JSON.parse(stdout) as { error: Record<string, unknown> };
    expect(error.code).toBe(code);
    expect(Object.keys(error).sort()).toEqual(['code', 'context', 'hint', 'message', 'operation']);
    expect(error.hint).toMatch(/\S{2,}/);
  });
});

test('every reason for refusing a token is documented, in order, and no other', () => {
  const documented = [...section('Tokens').matchAll(/^\| `([a-z ]+)` \| `[A-Z_]+` \|/gm)].map(
    ([, reason]) => reason,
  );
  // Counted along with them: data that arrived is not what the checksums say.
  expect(documented).toEqual([...REFUSAL_REASONS, 'mismatch']);
});

describe('JSON', () => {
  let folder: string;
  beforeAll(() => {
    folder = makeTempFolder('docs');
  });
  const disk = fixture('disk.vhdx');
  /** With its parent. */
  const copyOfChild = (at: string): string => {
    for (const name of ['disk.vhdx', 'child-partial.vhdx']) copyFileSync(fixture(name), path.join(at, name));
    return path.join(at, 'child-partial.vhdx');
  };
  const cases: [document: string, args: (folder: string) => string[]][] = [
    ['info', () => ['info', fixture('child-partial.vhdx'), '--chain']],
    ['create', (at) => ['create', path.join(at, 'a.vhdx'), '1G']],
    ['convert', (at) => ['convert', disk, path.join(at, 'b.vhd'), '--verify', '--resume']],
    ['convert', (at) => ['convert', disk, path.join(at, 'c.vhd'), '--dry-run']],
    ['map', () => ['map', disk]],
    ['compare', () => ['compare', disk, fixture('small-fixed-qemu.vhd')]],
    ['check', () => ['check', disk, '--profile', 'azure']],
    ['hash', () => ['hash', disk]],
    ['write', (at) => ['write', path.join(at, 'a.vhdx'), '--length', '1M', '--dry-run']],
    ['rebase', (at) => ['rebase', copyOfChild(at), '--parent', path.join(at, 'disk.vhdx'), '--dry-run']],
    ['merge', (at) => ['merge', copyOfChild(at)]],
    ['resize', (at) => ['resize', path.join(at, 'a.vhdx'), '+1G', '--dry-run']],
    [
      'convert --in-place',
      (at) => ['convert', path.join(at, 'a.vhdx'), '--in-place', '--type', 'fixed', '--dry-run'],
    ],
    ['compact', (at) => ['compact', path.join(at, 'a.vhdx'), '--free-space', '--dry-run']],
    ['compact', (at) => ['compact', path.join(at, 'a.vhdx'), '--to', path.join(at, 'f.vhdx')]],
    ['defrag', (at) => ['defrag', path.join(at, 'a.vhdx'), '--host']],
    ['completion', () => ['completion', 'fish']],
    ['token read', (at) => ['token', 'read', disk, '-o', path.join(at, 'a.tok')]],
    ['token write', (at) => ['token', 'write', path.join(at, 'a.tok'), path.join(at, 'a.vhdx'), '--dry-run']],
    ['token show', (at) => ['token', 'show', path.join(at, 'a.tok')]],
    ['token list', () => ['token', 'list']],
    ['token limits', () => ['token', 'limits']],
    ['token revoke', (at) => ['token', 'revoke', path.join(at, 'a.tok')]],
  ];

  test.each(cases)('%s has only documented fields', async (document, args) => {
    const fields = rows('JSON').find(([name]) => unquoted(name ?? '') === document)?.[1] ?? '';
    const { stdout } = await vhdkit([...args(folder), '--json']);
    const { schemaVersion, ...result } = JSON.parse(stdout) as Record<string, unknown>;
    expect(schemaVersion).toBe(1);
    expect(Object.keys(result).filter((name) => !words(fields).includes(name))).toEqual([]);
    expect(Object.keys(result).length).toBeGreaterThan(1);
  });

  test('every documented field of convert but the situational ones is there', async () => {
    const fields = words(rows('JSON').find(([name]) => name === '`convert`')?.[1] ?? '');
    const result = await vhdkitJson(['convert', disk, path.join(folder, 'd.vhd'), '--dry-run']);
    const situational = ['resumed', 'reblocked', 'verified', 'sha256', 'profile'];
    expect(fields.filter((name) => !(name in result))).toEqual(situational);
  });

  test('the line of progress has the shape shown', async () => {
    const shown = JSON.parse(/^\{.*\}$/m.exec(section('Progress'))?.[0] ?? '') as Record<string, unknown>;
    const { stderr } = await vhdkit(['convert', disk, path.join(folder, 'e.vhd'), '--progress', 'json']);
    const line = JSON.parse(stderr.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
    expect(Object.keys(line)).toEqual(Object.keys(shown));
    expect(Object.keys(line.work as object)).toEqual(Object.keys(shown.work as object));
  });
});

describe('the examples of --help', () => {
  const manifest = JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'oclif.manifest.json'), 'utf8')) as {
    commands: Record<string, { examples: { command: string }[] }>;
  };
  const examples = Object.values(manifest.commands).flatMap(({ examples: list }) =>
    // A device that is not there is a file whose name says no format.
    list.map(({ command }) => command.replaceAll('<%= config.bin %>', 'vhdkit').replace('/dev/sdx', 'x.raw')),
  );

  /** Runs the line in a shell in which every program but vhdkit is missing and writes go nowhere. */
  async function inShell(example: string, folder: string): Promise<{ statuses: number[]; stderr: string }> {
    const bin = path.join(PROJECT_ROOT, 'bin/run.js');
    for (const [, name] of example.matchAll(/ < (\w\S*)/g)) writeFileSync(path.join(folder, name ?? ''), 'x');
    const program = [
      'command_not_found_handle() { cat >/dev/null; }',
      'vhdkit() { "$node" "$bin" "$@"; local status=$?; echo "status $status" >&2; return $status; }',
      'node=$0; bin=$1; PATH=/nonexistent; cat() { while read -r; do :; done; }',
      'source() { :; }',
      example,
    ].join('\n');
    const { stderr } = await run('bash', ['-c', program, process.execPath, bin], { cwd: folder, input: '' });
    const statuses = [...stderr.matchAll(/^status (\d+)$/gm)].map(([, status]) => Number(status));
    return { statuses, stderr };
  }

  test.each(examples)('%s: its flags and arguments are understood', async (example) => {
    const folder = makeTempFolder('examples');
    const [program, ...args] = example.split(' ');
    // What needs no shell is run without one, which takes a tenth of the time.
    const isPlain =
      program === 'vhdkit' && /^[\w ./,:@+=-]+$/.test(example) && !/ - |^vhdkit write/.test(example);
    const here = isPlain ? await vhdkit(args, { cwd: folder }) : undefined;
    const { statuses, stderr } = here
      ? { statuses: [here.status], stderr: here.stderr }
      : await inShell(example, folder);
    expect(statuses.length, stderr).toBeGreaterThan(0);
    // The images of the examples are not there: that is the only thing that may be wrong. 141: nobody listened.
    for (const status of statuses) expect([0, 1, 2, 141], stderr).toContain(status);
    expect(stderr).not.toMatch(/Unknown|Unexpected|Missing|Not a size|Expected/);
  });
});

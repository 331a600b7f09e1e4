/** `vhdkit completion`: the scripts do what they should in real shells. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { lacking } from '../support/requires.js';
import { must, PROJECT_ROOT, vhdkit, vhdkitJson } from '../support/run.js';
import { makeTempFolder } from '../support/tmp.js';

let folder: string;
const script = (shell: string): string => path.join(folder, `completion.${shell}`);

beforeAll(async () => {
  folder = makeTempFolder('completion');
  for (const shell of ['bash', 'zsh', 'fish', 'powershell']) {
    const { status, stdout, stderr } = await vhdkit(['completion', shell]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    writeFileSync(script(shell), stdout);
  }
  mkdirSync(path.join(folder, 'place'));
  for (const name of ['disk one.vhdx', 'disk2.vhd']) writeFileSync(path.join(folder, 'place', name), '');
});

/** Line as typed, and what is offered (all of it, sorted). A last word of `` stands for a fresh word. */
const CASES: readonly [line: string, offered: readonly string[]][] = [
  ['con', ['convert']],
  ['comp', ['compact', 'compare', 'completion']],
  ['convert --pro', ['--progress', '--provider']],
  ['convert --provider ', ['auto', 'buffered', 'kernel', 'reflink', 'skip-1', 'skip-2']],
  ['convert --provider re', ['reflink']],
  ['convert a.vhd b.vhdx --zeros ', ['holes', 'scan']],
  ['convert -O vhd', ['vhd', 'vhdx']],
  ['map --no-', ['--no-color']],
  ['completion ', ['bash', 'fish', 'powershell', 'zsh']],
  ['help conv', ['convert']],
  ['token re', ['read', 'revoke']],
  ['token write --token-', ['--token-offset', '--token-store']],
];

describe(`bash${lacking('bash')}`, () => {
  /** Calls the function as bash does when Tab is pressed. */
  async function offered(words: readonly string[]): Promise<string[]> {
    const program = [
      'source "$1"; shift',
      'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))',
      '_vhdkit 2>/dev/null',
      'for word in "$' + '{COMPREPLY[@]}"; do echo "$word"; done',
    ].join('\n');
    const cwd = path.join(folder, 'place');
    const { stdout } = await must('bash', ['-c', program, 'bash', script('bash'), 'vhdkit', ...words], {
      cwd,
    });
    return stdout
      .split('\n')
      .filter((word) => word !== '')
      .sort();
  }

  test.each(CASES)('vhdkit %s<Tab>', async (line, expected) => {
    expect(await offered(line.split(' '))).toEqual(expected);
  });

  test('after = too, which bash makes a word of its own', async () => {
    expect(await offered(['convert', '--provider', '='])).toEqual([
      'auto',
      'buffered',
      'kernel',
      'reflink',
      'skip-1',
      'skip-2',
    ]);
    expect(await offered(['convert', '--provider', '=', 'ke'])).toEqual(['kernel']);
  });

  test('names of files, blanks and all', async () => {
    expect(await offered(['info', 'disk'])).toEqual(['disk one.vhdx', 'disk2.vhd']);
    expect(await offered(['convert', '--provider', 'kernel', 'disk2'])).toEqual(['disk2.vhd']);
    expect(await offered(['map', 'x.vhd', '--svg', 'disk2'])).toEqual(['disk2.vhd']);
    expect(await offered(['create', 'x.vhd', 'd'])).toEqual([]);
  });

  test('is registered for vhdkit', async () => {
    const { stdout } = await must('bash', ['-c', 'source "$1"; complete -p vhdkit', 'bash', script('bash')]);
    expect(stdout).toBe('complete -F _vhdkit vhdkit\n');
  });
});

const noZsh = lacking('zsh');
describe.skipIf(noZsh)(`zsh${noZsh}`, () => {
  /** Types the line with Tab and Enter into a zsh on a terminal; a stand-in for vhdkit tells what it was given. */
  async function typed(line: string): Promise<string> {
    const program = [
      'zmodload zsh/zpty',
      'zpty shell zsh -f -i',
      'zpty -w shell "unsetopt prompt_sp; PROMPT=; stty -echo; autoload -U compinit; compinit -u -D; source $1"',
      'zpty -w shell "vhdkit() { print -r -- \\"<<\\" \\"\\$@\\" \\">>\\" }; cd $2; print rea\'\'dy"',
      'zpty -r shell answer "*ready*"',
      'zpty -w shell "$3"$\'\\t\'',
      'zpty -r shell answer "*>>*"',
      'print -r -- "$answer"',
    ].join('\n');
    const args = ['-fc', program, 'zsh', script('zsh'), path.join(folder, 'place'), `vhdkit ${line}`];
    const { stdout } = await must('zsh', args, { timeout: 30_000, env: { TERM: 'dumb' } });
    return /<< (.*?) >>/s.exec(stdout)?.[1] ?? stdout;
  }

  test.each([
    ['con', 'convert'],
    ['convert --prov', 'convert --provider='],
    ['convert --provider re', 'convert --provider reflink'],
    ['convert --dry', 'convert --dry-run'],
    ['info disk2', 'info disk2.vhd'],
    ['completion f', 'completion fish'],
  ])('vhdkit %s<Tab>', async (line, expected) => {
    expect((await typed(line)).replace(/=$/, '')).toBe(expected.replace(/=$/, ''));
  });
});

const noFish = lacking('fish');
describe.skipIf(noFish)(`fish${noFish}`, () => {
  async function offered(line: string): Promise<string[]> {
    const program = 'source $argv[1]; cd $argv[2]; complete -C $argv[3]';
    const args = ['--no-config', '-c', program, script('fish'), path.join(folder, 'place'), `vhdkit ${line}`];
    const { stdout } = await must('fish', args, { env: { HOME: folder } });
    return stdout
      .split('\n')
      .map((row) => row.split('\t')[0] ?? '')
      .filter((word) => word !== '')
      .sort();
  }

  test.each(CASES)('vhdkit %s<Tab>', async (line, expected) => {
    const words = await offered(line);
    // fish offers files, too, where an argument may be one.
    expect(words.filter((word) => !word.startsWith('disk'))).toEqual(expected);
  });

  test('names of files', async () => {
    expect(await offered('info disk2')).toEqual(['disk2.vhd']);
  });
});

const noPwsh = lacking('pwsh');
describe.skipIf(noPwsh)(`PowerShell${noPwsh}`, () => {
  test.each(CASES)('vhdkit %s<Tab>', async (line, expected) => {
    const program = `Get-Content -Raw '${script('powershell')}' | Invoke-Expression
      (TabExpansion2 'vhdkit ${line}' ${`vhdkit ${line}`.length}).CompletionMatches.CompletionText`;
    const { stdout } = await must('pwsh', ['-NoProfile', '-Command', program]);
    expect(
      stdout
        .split(/\r?\n/)
        .filter((word) => word !== '')
        .sort(),
    ).toEqual(expected);
  });
});

describe('the command', () => {
  test('as JSON', async () => {
    const { script: text } = await vhdkitJson(['completion', 'fish']);
    expect(text).toContain('complete -c vhdkit');
  });

  test('an unknown shell is wrong usage that names those there are', async () => {
    const { status, stderr } = await vhdkit(['completion', 'tcsh']);
    expect(status).toBe(64);
    expect(stderr).toContain('bash, zsh, fish, powershell');
  });

  test('every command and every flag is in every script', async () => {
    const manifest = JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'oclif.manifest.json'), 'utf8')) as {
      commands: Record<string, { flags: object }>;
    };
    const commands = Object.entries(manifest.commands);
    const names = commands.flatMap(([id, { flags }]) => [...id.split(':'), ...Object.keys(flags)]);
    expect(commands.length).toBeGreaterThan(5);
    for (const shell of ['bash', 'zsh', 'fish', 'powershell']) {
      const text = readFileSync(script(shell), 'utf8');
      const missing = names.filter((name) => !new RegExp(`\\b${name}\\b`).test(text));
      expect(missing, shell).toEqual([]);
    }
  });
});

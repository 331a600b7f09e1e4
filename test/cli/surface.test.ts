/** The command line's surface is a contract: commands, arguments, flags and aliases are frozen here. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { PROJECT_ROOT, vhdkit } from '../support/run.js';

interface Flag {
  char?: string;
  type: string;
  options?: string[];
  aliases?: string[];
  required?: boolean;
  allowNo?: boolean;
}
interface Command {
  aliases: string[];
  args: Record<string, { required?: boolean }>;
  flags: Record<string, Flag>;
  examples?: unknown[];
  summary?: string;
}

const manifest = JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'oclif.manifest.json'), 'utf8')) as {
  commands: Record<string, Command>;
};

function flagText(name: string, flag: Flag): string {
  const parts = [flag.char ? `-${flag.char}, ` : '', flag.allowNo ? '--[no-]' : '--', name];
  if (flag.type === 'option') parts.push(`=${flag.options?.join('|') ?? 'value'}`);
  if (flag.aliases?.length) parts.push(` (${flag.aliases.join(', ')})`);
  return `${parts.join('')}${flag.required ? ' required' : ''}`;
}

function surface(): object {
  const entries = Object.entries(manifest.commands).map(([id, command]) => {
    const args = Object.entries(command.args).map(([name, arg]) => (arg.required ? name : `[${name}]`));
    const flags = Object.entries(command.flags).map(([name, flag]) => flagText(name, flag));
    return [id, { aliases: command.aliases, args, flags: flags.sort() }];
  });
  return Object.fromEntries(entries);
}

const SNAPSHOT = path.join(import.meta.dirname, 'command-snapshot.json');

/** After a deliberate change: `VHDKIT_UPDATE_SNAPSHOT=1 npx vitest run test/cli/surface`, then review the diff. */
test('the commands, their arguments, flags and aliases are those of command-snapshot.json', () => {
  if (process.env.VHDKIT_UPDATE_SNAPSHOT) writeFileSync(SNAPSHOT, `${JSON.stringify(surface(), null, 2)}\n`);
  expect(surface()).toEqual(JSON.parse(readFileSync(SNAPSHOT, 'utf8')));
});

describe.each(Object.entries(manifest.commands))('%s', (id, command) => {
  /** As people type it; the commands of a topic are told apart by a second word. */
  const typed = id.replaceAll(':', ' ');

  test('has a summary and examples that run this command', () => {
    expect(command.summary).toMatch(/\.$/);
    expect(command.examples?.length).toBeGreaterThan(0);
    for (const example of command.examples ?? [])
      expect(`${(example as { command: string }).command} `).toContain(`<%= config.bin %> ${typed} `);
  });

  test.each(['--help', '-h'])('%s', async (flag) => {
    const { status, stdout, stderr } = await vhdkit([...typed.split(' '), flag]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('USAGE');
    expect(stdout).toContain('EXAMPLES');
    expect(stdout).toContain(`$ vhdkit ${typed}`);
  });
});

test.each([['--version'], ['-V']])('%s', async (flag) => {
  const { version } = JSON.parse(readFileSync(path.join(PROJECT_ROOT, 'package.json'), 'utf8')) as {
    version: string;
  };
  const { status, stdout } = await vhdkit([flag]);
  expect(status).toBe(0);
  expect(stdout).toMatch(new RegExp(`^vhdkit/${version.replaceAll('.', '\\.')} `));
});

test.each([[[]], [['--help']], [['help']]])('%j lists the commands', async (args) => {
  const { status, stdout } = await vhdkit(args);
  expect(status).toBe(0);
  for (const id of Object.keys(manifest.commands)) {
    const [word] = id.split(':');
    expect(stdout).toMatch(new RegExp(`^ {2}${word} `, 'm'));
  }
});

test('help COMMAND is COMMAND --help', async () => {
  expect((await vhdkit(['help', 'map'])).stdout).toBe((await vhdkit(['map', '--help'])).stdout);
});

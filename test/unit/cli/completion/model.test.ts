/** From the manifest to what is completed. */
import { expect, test } from 'vitest';
import { completionModel, type ManifestCommand, spellings } from '../../../../src/cli/completion/model.js';
import { completionScript } from '../../../../src/cli/completion/scripts.js';

const NASTY = "It's $(a) `test` with [brackets]: 'quotes', \\ and \"more\".";

const COMMANDS: readonly ManifestCommand[] = [
  {
    id: 'copy',
    summary: NASTY,
    aliases: ['cp'],
    flags: {
      to: { name: 'to', char: 'O', type: 'option', helpValue: '<raw|vhd>', summary: NASTY },
      svg: { name: 'svg', type: 'option', helpValue: '<file>' },
      rate: { name: 'rate', type: 'option', helpValue: '<size>' },
      color: { name: 'color', type: 'boolean', allowNo: true },
      secret: { name: 'secret', type: 'boolean', hidden: true },
    },
    args: { image: { name: 'image' }, size: { name: 'size' } },
  },
  { id: 'cp', aliases: ['cp'], flags: {}, args: {} },
  { id: 'token:read', summary: 'x', flags: {}, args: {} },
  { id: 'hidden', hidden: true, flags: {}, args: {} },
];

test('commands, flags and values', () => {
  const model = completionModel(COMMANDS);
  expect(model.map(({ name }) => name)).toEqual(['copy', 'help', 'token']);
  const [copy] = model;
  expect(copy?.flags.map(({ name, values }) => [name, values])).toEqual([
    ['color', undefined],
    ['help', undefined],
    ['rate', 'any'],
    ['svg', 'files'],
    ['to', ['raw', 'vhd']],
  ]);
  expect(copy?.flags.flatMap(spellings)).toEqual([
    '--color',
    '--no-color',
    '--help',
    '-h',
    '--rate',
    '--svg',
    '--to',
    '-O',
  ]);
  expect(copy?.args).toEqual([
    { name: 'image', values: 'files' },
    { name: 'size', values: 'any' },
  ]);
});

test('a name that a shell would expand is refused', () => {
  const flags = { x: { name: 'a$(b)', type: 'boolean' } };
  expect(() => completionModel([{ id: 'x', flags, args: {} }])).toThrow('completed');
});

test.each(['bash', 'zsh', 'fish', 'powershell'] as const)(
  '%s: a script comes of it, hidden things do not',
  (shell) => {
    const text = completionScript(shell, completionModel(COMMANDS));
    expect(text).toContain('copy');
    expect(text).not.toContain('secret');
    expect(text).not.toContain('hidden');
  },
);

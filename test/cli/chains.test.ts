/** Chains on the command line: making children, and what `info --chain` and `map` print of the links. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { create } from '../../src/operations/create.js';
import { host } from '../support/chain-kit.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { must, PROJECT_ROOT } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
const BIN = path.join(PROJECT_ROOT, 'bin/run.js');

/** A base of 16 MiB and two images over it, base first. */
async function chain(folder: string, format = 'vhdx'): Promise<[string, string, string]> {
  const [base, middle, top] = ['base', 'middle', 'top'].map((name) =>
    path.join(folder, `${name}.${format}`),
  ) as [string, string, string];
  await create(host, { path: base, size: 16 * MiB });
  await create(host, { path: middle, type: 'differencing', parent: base });
  await create(host, { path: top, size: 1024 * MiB, type: 'differencing', parent: middle });
  return [base, middle, top];
}

describe.each(['vhd', 'vhdx'])('%s', (format) => {
  test('create says what the child is over, info and map list the chain with verdicts', async () => {
    const folder = testFolder();
    const [base, middle, top] = await chain(folder, format);
    const third = path.join(folder, `third.${format}`);
    const created = await must(process.execPath, [
      BIN,
      'create',
      third,
      '--type',
      'differencing',
      '--parent',
      top,
    ]);
    expect(created.stdout).toMatch(new RegExp(`parent +${top}`));
    expect(created.stdout).toMatch(/images in the chain +4\n/);
    expect(created.stderr).toBe('');
    const list = [
      `    0  ${top}`,
      `    1    ${middle}  matches; smaller than its child: zeros from 16 MiB on`,
      `    2      ${base}  matches`,
    ].join('\n');
    const shown = await vhdkit(['info', top, '--chain']);
    expect(shown.stdout).toContain(`chain of 3 images, top first\n${list}\n`);
    const map = await vhdkit(['map', top]);
    expect(map.stdout.startsWith(`${list}\n`)).toBe(true);
    const { chain: images } = await vhdkitJson(['map', top]);
    expect(images).toMatchObject([
      { path: top, depth: 0, parent: { verdict: 'matches', path: middle } },
      { path: middle, depth: 1, parent: { verdict: 'matches', path: base } },
      { path: base, depth: 2 },
    ]);
  });

  test('a link that does not hold is told at its place, and map shows what is left', async () => {
    const folder = testFolder();
    const [base, middle, top] = await chain(folder, format);
    rmSync(base);
    const shown = await vhdkit(['info', top, '--chain']);
    expect(shown.status).toBe(0);
    expect(shown.stdout).toContain('chain of 2 images, top first');
    expect(shown.stdout).toContain(`    2      .\\base.${format}  missing: `);
    const map = await vhdkit(['map', top]);
    expect(map.status).toBe(0);
    expect(map.stderr).toContain(`warning: ${middle}: its parent '.\\base.${format}' was not found`);
    await vhdkitJson(['create', base, '16M']);
    expect((await vhdkit(['info', middle])).stdout).toMatch(
      /parent link +mismatch: .*its id is [0-9a-f-]{36}/,
    );
  });
});

describe('refusals of create', () => {
  test.each([
    [['--type', 'differencing'], 'needs --parent'],
    [['--parent', 'base.vhdx'], 'goes with --type differencing'],
    [['--type', 'fixed', '--parent', 'base.vhdx'], 'goes with --type differencing'],
    [[], 'Missing argument: SIZE'],
  ])('%j', async (flags, text) => {
    const file = path.join(testFolder(), 'child.vhdx');
    const { status, stderr } = await vhdkit(['create', file, ...flags]);
    expect(stderr).toContain(text);
    expect(status).toBe(64);
    expect(existsSync(file)).toBe(false);
  });

  test('warnings go to stderr, or into the document', async () => {
    const folder = testFolder();
    const [base] = await chain(folder);
    const args = [
      'create',
      path.join(folder, 'child.img'),
      '-O',
      'vhdx',
      '--type',
      'differencing',
      '--parent',
      base,
    ];
    const { stderr, status } = await vhdkit(args);
    expect(stderr).toContain('warning CHAIN_NAME_WINDOWS: ');
    expect(status).toBe(0);
    const document = await vhdkitJson([...args, '--force']);
    expect(document.warnings).toMatchObject([{ code: 'CHAIN_NAME_WINDOWS' }]);
  });

  test('while another vhdkit writes the parent, by its process id', async () => {
    const folder = testFolder();
    const parent = path.join(folder, 'parent.vhd');
    await vhdkitJson(['create', parent, '16M']);
    const writer = spawn(process.execPath, [BIN, 'write', parent], { stdio: ['pipe', 'ignore', 'ignore'] });
    try {
      const child = path.join(folder, 'child.vhd');
      const args = ['create', child, '--type', 'differencing', '--parent', parent, '--force', '--json'];
      let result = await vhdkit(args);
      for (let attempt = 0; attempt < 100 && result.status === 0; attempt += 1) {
        rmSync(child);
        result = await vhdkit(args);
      }
      expect(JSON.parse(result.stdout)).toMatchObject({
        error: { code: 'IN_USE', context: { path: parent, pid: writer.pid } },
      });
      expect(existsSync(child)).toBe(false);
      const second = await vhdkit(['write', parent, '--json'], { input: 'x' });
      expect(JSON.parse(second.stdout)).toMatchObject({
        error: { code: 'IN_USE', context: { pid: writer.pid } },
      });
    } finally {
      writer.kill('SIGKILL');
      await once(writer, 'exit');
    }
    await vhdkitJson(['write', parent], { input: Buffer.alloc(512, 1) });
  });
});

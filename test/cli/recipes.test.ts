/** Every vhdkit command of docs/recipes.md runs, on disks made here; the programs around it do not. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { describeFailure, must, PROJECT_ROOT, run } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
const BIN = path.join(PROJECT_ROOT, 'bin/run.js');

interface Recipe {
  title: string;
  blocks: string[];
  commands: string[];
}

/** What a recipe begins with, made by programs that are not run here. */
const GIVEN: Readonly<Record<string, readonly string[]>> = {
  'GitHub Actions': ['disk.raw'],
  'GitLab CI': ['disk.raw'],
  'Azure upload': ['disk.vhdx'],
  'WSL export and import': ['debian.vhdx'],
  Packer: ['output/disk.raw'],
  'XCP-ng import': ['disk.vhdx'],
  'Clones over one base': ['disk.vhdx'],
  'Grow a disk': ['disk.vhdx'],
  'Shrink a WSL disk': ['ext4.vhdx'],
  'A large disk, on a machine with other work': ['disk.vhdx'],
};

/** A command as it stands in a shell script, a list of YAML or a list of strings. */
const COMMAND = /^\s*(?:- run: |- |")?(vhdkit [^"]*?)(?:",)?$/gm;

function recipes(): Recipe[] {
  const text = readFileSync(path.join(PROJECT_ROOT, 'docs/recipes.md'), 'utf8');
  return text
    .split(/^## /m)
    .slice(1)
    .map((section) => {
      const blocks = [...section.matchAll(/^```\w+\n(.*?)^```$/gms)].map(([, block]) => block ?? '');
      const commands = blocks.flatMap((block) => [...block.matchAll(COMMAND)].map(([, line]) => line ?? ''));
      return { title: section.split('\n')[0] ?? '', blocks, commands };
    });
}

let samples: string;

/** 24 MiB with payload in the middle, as raw and VHDX. */
beforeAll(async () => {
  samples = makeTempFolder('recipes');
  const content = Buffer.alloc(24 * MiB);
  seededBytes(2 * MiB, 11).copy(content, 9 * MiB);
  writeFileSync(path.join(samples, 'a.raw'), content);
  await must(process.execPath, [BIN, 'convert', path.join(samples, 'a.raw'), path.join(samples, 'a.vhdx')]);
});

describe('the recipes', () => {
  test('are those that this test knows, and none of their commands is missed', () => {
    expect(recipes().map(({ title }) => title)).toEqual(Object.keys(GIVEN));
    for (const { title, blocks, commands } of recipes()) {
      const mentioned = blocks.join('\n').match(/\bvhdkit (?!\n)/g) ?? [];
      expect({ title, count: commands.length }).toEqual({ title, count: mentioned.length });
      expect(commands.length).toBeGreaterThan(1);
    }
  });

  test.each(recipes())('$title', async ({ title, commands }) => {
    const folder = testFolder();
    for (const name of GIVEN[title] ?? []) {
      const target = path.join(folder, name);
      mkdirSync(path.dirname(target), { recursive: true });
      await must('cp', [path.join(samples, `a${path.extname(name)}`), target]);
    }
    for (const command of commands) {
      const line = command.replace(/^vhdkit /, '"$0" "$1" ');
      const result = await run('bash', ['-c', line, process.execPath, BIN], { cwd: folder });
      if (result.status !== 0) throw new Error(describeFailure(command, [], result));
    }
    const made = commands.flatMap(
      (command) => /^vhdkit convert \S+ (\S+)(?!.*--dry-run)/.exec(command)?.[1] ?? [],
    );
    expect(made.length).toBeGreaterThan(0);
    for (const name of made) {
      const { status } = await run(process.execPath, [
        BIN,
        'compare',
        path.join(samples, 'a.raw'),
        path.join(folder, name),
      ]);
      expect({ name, status }).toEqual({ name, status: 0 });
    }
  });
});

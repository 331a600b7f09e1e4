/**
 * Every vhdkit command of docs/recipes.md runs, on disks made here. The programs around it do not, but for recipes with
 * a server: those are scripts that run as they stand, and end with the first line that fails.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { vhdkit } from '../support/in-process.js';
import { lacking } from '../support/requires.js';
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
  'A chain for programs that know no chains': ['disk.vhdx'],
  'A scratch disk for a CI job': ['disk.vhdx'],
  'Snapshot, risky change, back again': ['disk.img'],
  'Nightly export of a disk in use, and then only what changed': ['disk.img'],
  'Those who came before, and those who come after': ['disk.img'],
};

/** Recipes with a server, and what must be true of what they made. */
const SERVED: Readonly<Record<string, string>> = {
  'A chain for programs that know no chains': 'qemu-img compare copy.img copy.qcow2',
  'A scratch disk for a CI job': 'test ! -S job.sock && vhdkit compare disk.vhdx "$samples/a.raw"',
  'Snapshot, risky change, back again':
    'cmp disk.img "$samples/a.raw" && ! vhdkit compare failed.vhdx disk.img',
  'Nightly export of a disk in use, and then only what changed': 'test $(wc -l < changed) = 1',
  'Those who came before, and those who come after':
    "qemu-io -r -f raw -c 'read -P 2 2M 64k' copy.img && cmp -n 2M copy.img $samples/a.raw",
};

const lacks = lacking('nbdinfo', 'nbdcopy', 'nbdsh', 'qemu-img', 'qemu-io', 'jq');

/** What a CI job does with its disk. */
const RUN_TESTS = `#!/bin/sh
qemu-io -f raw -c 'write -P 0xee 9M 1M' -c flush -c 'read -P 0xee 9M 1M' "$1"
`;

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

/** Runs a script in which `vhdkit` is this one, and python3 the system's. What it started ends with it. @throws Error when a line fails */
async function runServed(folder: string, script: string): Promise<void> {
  const programs = makeTempFolder('programs');
  writeFileSync(path.join(programs, 'vhdkit'), `#!/bin/sh\nexec '${process.execPath}' '${BIN}' "$@"\n`, {
    mode: 0o755,
  });
  writeFileSync(path.join(folder, 'run-tests.sh'), RUN_TESTS, { mode: 0o755 });
  const prelude =
    "set -euo pipefail\nPATH=$programs:/usr/bin:$PATH\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n";
  const result = await run('bash', ['-c', prelude + script], { cwd: folder, env: { samples, programs } });
  if (result.status !== 0) throw new Error(describeFailure('bash', [], result));
}

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

  test.for(recipes())('$title', async ({ title, blocks, commands }, { skip }) => {
    const script = SERVED[title];
    if (script !== undefined) skip(lacks !== '', `not run${lacks}`);
    const folder = testFolder();
    for (const name of GIVEN[title] ?? []) {
      const target = path.join(folder, name);
      mkdirSync(path.dirname(target), { recursive: true });
      await must('cp', [path.join(samples, name.endsWith('.vhdx') ? 'a.vhdx' : 'a.raw'), target]);
    }
    if (script !== undefined) return runServed(folder, `${blocks.join('\n')}\n${script}`);
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
      const { status } = await vhdkit(['compare', path.join(samples, 'a.raw'), path.join(folder, name)]);
      expect({ name, status }).toEqual({ name, status: 0 });
    }
  });
});

/** `convert --rate`: real time, real signals; and several conversions at once. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { difference } from '../support/content.js';
import { lacking, tool } from '../support/requires.js';
import { must, PROJECT_ROOT, run, vhdkit, vhdkitJson } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const SIZE = 32 * MiB;
let source: string;

beforeAll(() => {
  source = path.join(makeTempFolder('rate'), 'a.raw');
  writeFileSync(source, seededBytes(SIZE, 7));
});

describe('32 MiB at 32 MiB a second take a second', () => {
  test.each([
    ['b.raw', ['--provider', 'buffered']],
    ['b.raw', ['--provider', 'kernel']],
    ['b.vhd', []],
    ['b.vhdx', ['--zeros', 'scan']],
  ])('%s %j', async (name, args) => {
    const target = path.join(testFolder(), name);
    const result = await vhdkitJson(['convert', source, target, '--rate', '32M', ...args]);
    expect(result.elapsedMs).toBeGreaterThan(950);
    // A busy machine may take longer; without the limit it is a tenth of this.
    expect(result.elapsedMs).toBeLessThan(10_000);
    if (name === 'b.raw') expect(await difference(source, target)).toBeUndefined();
  });

  test.each([
    ['out', '"$0" "$1" convert "$2" - -O raw --rate 32M -q >"$3"'],
    ['in', '"$0" "$1" convert - "$3" -f raw -O raw --rate 32M -q <"$2"'],
  ])('a stream %s', async (_, line) => {
    const target = path.join(testFolder(), 'b.raw');
    const { elapsed } = await must('bash', ['-c', line, process.execPath, BIN, source, target]);
    expect(elapsed).toBeGreaterThan(950);
    expect(await difference(source, target)).toBeUndefined();
  });
});

test('holes and unallocated blocks take no time', async () => {
  const folder = testFolder();
  const empty = path.join(folder, 'a.vhdx');
  await must(process.execPath, [BIN, 'create', empty, '100G']);
  const { elapsed } = await must(process.execPath, [
    BIN,
    'convert',
    empty,
    path.join(folder, 'b.vhd'),
    '--rate',
    '1',
  ]);
  expect(elapsed).toBeLessThan(20_000);
});

test('Ctrl-C while it waits: it ends at once and leaves nothing', async () => {
  const folder = testFolder();
  const args = ['convert', source, path.join(folder, 'b.vhdx'), '--rate', '1K', '--progress', 'json'];
  const child = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const closed = once(child, 'close');
  // The first line of progress says that the work has begun; the first piece would take minutes.
  await once(child.stderr, 'data');
  const before = performance.now();
  child.kill('SIGINT');
  expect(await closed).toEqual([130, null]);
  expect(performance.now() - before).toBeLessThan(5000);
  expect(readdirSync(folder)).toEqual([]);
});

test.each([
  ['0', 'Nothing can go on at 0 bytes per second'],
  ['fast', "Not a size: 'fast'"],
  ['-1', 'size'],
])('--rate %s is wrong usage', async (rate, text) => {
  const { status, stderr } = await vhdkit([
    'convert',
    source,
    path.join(testFolder(), 'b.vhd'),
    `--rate=${rate}`,
  ]);
  expect(status).toBe(64);
  expect(stderr).toContain(text);
  expect(stderr).toContain('hint: ');
});

test('progress as JSON tells work, rate and time left', async () => {
  const target = path.join(testFolder(), 'b.vhdx');
  const args = ['convert', source, target, '--rate', '32M', '--progress', 'json'];
  const { stderr } = await must(process.execPath, [BIN, ...args]);
  const lines = stderr
    .trim()
    .split('\n')
    .map(
      (line) =>
        JSON.parse(line) as { work: { transferred: number; size: number }; rate: number; remaining: number },
    );
  expect(lines.length).toBeGreaterThan(3);
  for (const { work } of lines) expect(work.size).toBe(SIZE);
  const middle = lines[Math.floor(lines.length / 2)];
  expect(middle?.rate).toBeGreaterThan(10 * MiB);
  expect(middle?.rate).toBeLessThan(60 * MiB);
  expect(middle?.remaining).toBeGreaterThan(0.1);
  expect(lines.at(-1)).toMatchObject({
    transferred: SIZE,
    size: SIZE,
    work: { transferred: SIZE, size: SIZE },
    remaining: 0,
  });
});

/** GNU time(1) tells the peak memory of a child. */
const lacks = lacking('time');

describe.skipIf(!tool('time'))(`four conversions at once${lacks}`, () => {
  test('all end well, and none needs more memory than alone', async () => {
    const folder = testFolder();
    const large = path.join(folder, 'a.raw');
    writeFileSync(large, seededBytes(192 * MiB, 3));
    const targets = ['1.vhdx', '2.vhdx', '3.vhd', '4.raw'].map((name) => path.join(folder, name));
    const results = await Promise.all(
      targets.map((target) =>
        run('time', [
          '-f',
          'peak %M',
          process.execPath,
          BIN,
          'convert',
          large,
          target,
          '-q',
          '--provider',
          'buffered',
        ]),
      ),
    );
    for (const { status, stderr } of results) {
      expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringMatching(/^peak \d+\n$/) });
      const peak = Number(/peak (\d+)/.exec(stderr)?.[1]) * 1024;
      expect(peak).toBeLessThan(130 * MiB);
    }
    for (const target of targets) {
      const { status } = await vhdkit(['compare', large, target, '-q']);
      expect({ target, status }).toEqual({ target, status: 0 });
    }
  });
});

/** Ctrl-C, SIGTERM and readers that go away. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, openSync, readdirSync, writeSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT, run } from '../support/run.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const MiB = 1024 ** 2;
const SIZE = 1536 * MiB;
let source: string;

beforeAll(() => {
  source = path.join(makeTempFolder('signals'), 'large.raw');
  const block = Buffer.alloc(4 * MiB, 0x5a);
  const fd = openSync(source, 'w');
  ftruncateSync(fd, SIZE);
  for (let offset = 0; offset < SIZE; offset += block.length) writeSync(fd, block, 0, block.length, offset);
  closeSync(fd);
});

/** Starts a conversion that takes a while and sends the signals one after the other once it has begun. */
async function interrupted(
  target: string,
  signals: NodeJS.Signals[],
): Promise<{ status: number; stderr: string }> {
  const args = ['convert', source, target, '--provider', 'buffered', '--progress', 'json'];
  const child = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  let sent = false;
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
    if (sent || !stderr.includes('transferred')) return;
    sent = true;
    for (const signal of signals) child.kill(signal);
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  expect(signal).toBeNull();
  return { status: code ?? -1, stderr };
}

describe('a signal during convert', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s: exit %i, no file left, nor a part of one', async (signal, expected) => {
    const folder = testFolder();
    const { status, stderr } = await interrupted(path.join(folder, 'b.vhdx'), [signal]);
    expect(status).toBe(expected);
    expect(readdirSync(folder)).toEqual([]);
    const said = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
    expect(said).toEqual([
      expect.stringMatching(/^Error: Cancelled/),
      expect.stringMatching(/^ {2}hint: .*--resume/),
    ]);
  });

  test('the second Ctrl-C ends at once', async () => {
    const folder = testFolder();
    const { status } = await interrupted(path.join(folder, 'b.vhdx'), ['SIGINT', 'SIGTERM']);
    expect([130, 143]).toContain(status);
    expect(readdirSync(folder)).not.toContain('b.vhdx');
  });
});

describe('a reader that goes away', () => {
  test.each(['read', 'map --json', 'map'])('%s ends quietly with a code', async (command) => {
    // Many extents, so that the output is larger than a pipe.
    const image = path.join(testFolder(), 'many.raw');
    const fd = openSync(image, 'w');
    ftruncateSync(fd, 512 * MiB);
    for (let offset = 0; offset < 512 * MiB; offset += 128 * 1024) writeSync(fd, 'x', offset);
    closeSync(fd);
    const line = `"$0" "$1" ${command} "$2" | head -c 10 >/dev/null; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await run('bash', ['-c', line, process.execPath, BIN, image]);
    expect({ stdout, stderr }).toEqual({ stdout: '141\n', stderr: '' });
  });

  test('--help as well', async () => {
    const line = `"$0" "$1" convert --help | true; echo "\${PIPESTATUS[0]}"`;
    const { stderr } = await run('bash', ['-c', line, process.execPath, BIN]);
    expect(stderr).toBe('');
  });
});

test('a full disk under stdout is an error, not a stack trace', async () => {
  const { status, stderr } = await run('bash', [
    '-c',
    '"$0" "$1" read "$2" >/dev/full',
    process.execPath,
    BIN,
    source,
  ]);
  expect(status).toBe(1);
  expect(stderr).toMatch(/^Error: .*ENOSPC/);
  expect(stderr.trimEnd().split('\n').length).toBeLessThanOrEqual(3);
});

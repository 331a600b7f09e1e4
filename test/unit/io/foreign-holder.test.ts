/**
 * Other programs that hold an image: qemu by its locks, anybody by an open descriptor, loop devices.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, linkSync, openSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { isInTheWay, parseLockLine } from '../../../src/io/foreign-holder.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { canLoop } from '../../support/requires.js';
import { must } from '../../support/run.js';
import { testFolder } from '../../support/tmp.js';
import { findTool } from '../../support/tools.js';

const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
});

const { holder, lock } = nodeFileSystem;

function image(name = 'disk.img'): string {
  const file = path.join(testFolder(), name);
  writeFileSync(file, Buffer.alloc(1 << 20));
  return file;
}

/** Starts a program that ends with the test. */
function start(command: string, args: string[], stdio: ChildProcess['stdio'] | string[] = []): ChildProcess {
  const child = spawn(findTool(command) ?? command, args, { stdio: stdio as never });
  children.push(child);
  return child;
}

/** What a check says once it says something, or undefined after ten seconds. */
async function eventually<T>(check: () => Promise<T | undefined>): Promise<T | undefined> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const answer = await check();
    if (answer !== undefined) return answer;
    await sleep(50);
  }
  return undefined;
}

const refusal = (file: string): Promise<unknown> =>
  lock(file).then(
    async (held) => void (await held.release()),
    (error: unknown) => error,
  );

describe.runIf(process.platform === 'linux')('a program that has the image open', () => {
  it('for writing, without any lock, is named', async () => {
    const file = image();
    const descriptor = openSync(file, 'r+');
    const child = start('sleep', ['60'], ['ignore', 'ignore', 'ignore', descriptor] as never);
    closeSync(descriptor);
    expect(await eventually(() => holder(file))).toMatchObject({ pid: child.pid, command: 'sleep' });
    expect(await refusal(file)).toMatchObject({
      code: 'IN_USE',
      message: `${file} is in use by process ${child.pid} (sleep)`,
      context: { path: file, pid: child.pid, command: 'sleep' },
    });
    const link = `${file}.link`;
    symlinkSync(file, link);
    expect(await refusal(link)).toMatchObject({ code: 'IN_USE' });
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await holder(file)).toBeUndefined();
    expect(await refusal(file)).toBeUndefined();
  });

  it('for reading is nobody’s concern, and neither is another file', async () => {
    const file = image();
    const descriptor = openSync(file, 'r');
    start('sleep', ['60'], ['ignore', 'ignore', 'ignore', descriptor] as never);
    closeSync(descriptor);
    const other = image();
    const writer = openSync(other, 'r+');
    start('sleep', ['60'], ['ignore', 'ignore', 'ignore', writer] as never);
    closeSync(writer);
    expect(await eventually(() => holder(other))).toBeDefined();
    expect(await holder(file)).toBeUndefined();
    expect(await refusal(file)).toBeUndefined();
  });

  it('in this process does not count', async () => {
    const file = image();
    const descriptor = openSync(file, 'r+');
    expect(await refusal(file)).toBeUndefined();
    closeSync(descriptor);
  });
});

describe.runIf(findTool('qemu-io') && findTool('qemu-nbd'))('QEMU', () => {
  it('that writes an image is named, also when it has it under another name', async () => {
    const file = image();
    const alias = path.join(testFolder(), 'alias.img');
    const child = start('qemu-io', ['-f', 'raw', file], ['pipe', 'ignore', 'ignore']);
    expect(await eventually(() => holder(file))).toMatchObject({ pid: child.pid, command: 'qemu-io' });
    linkSync(file, alias);
    expect(await eventually(() => holder(alias))).toMatchObject({ pid: child.pid });
    expect(await refusal(alias)).toMatchObject({ code: 'IN_USE', context: { pid: child.pid } });
  });

  it('that serves an image for reading and forbids writing keeps writers out, not readers', async () => {
    const file = image();
    const socket = path.join(testFolder(), 'nbd');
    const child = start('qemu-nbd', ['-r', '-t', '-f', 'raw', '-k', socket, file], ['ignore']);
    const refused = await eventually(async () => (await refusal(file)) as object | undefined);
    expect(refused).toMatchObject({ code: 'IN_USE', context: { pid: child.pid, command: 'qemu-nbd' } });
    expect(await holder(file)).toBeUndefined();
  });
});

describe('another vhdkit', () => {
  it('that holds the lock is named, until it is gone', async () => {
    const file = image();
    const child = start('sleep', ['60'], ['ignore']);
    const lockFile = path.join(path.dirname(file), '.disk.img.vhdkit-lock');
    writeFileSync(lockFile, `${child.pid} ${hostname()}\n`);
    expect(await holder(file)).toEqual({ pid: child.pid, host: hostname() });
    expect(await refusal(file)).toMatchObject({ code: 'IN_USE', context: { pid: child.pid } });
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await holder(file)).toBeUndefined();
    expect(await refusal(file)).toBeUndefined();
  });
});

describe.runIf(canLoop())('a loop device', () => {
  it('is named with how to detach it; a read-only one concerns writers only', async () => {
    const file = image();
    const attach = async (...options: string[]): Promise<string> =>
      (await must('losetup', ['--find', '--show', ...options, file])).stdout.trim();
    const device = await attach();
    try {
      expect(await holder(file)).toMatchObject({ pid: 0, command: `the loop device ${device}` });
      expect(await refusal(file)).toMatchObject({
        code: 'IN_USE',
        message: `${file} is in use by the loop device ${device}`,
        hint: expect.stringContaining(`losetup -d ${device}`),
      });
    } finally {
      await must('losetup', ['-d', device]);
    }
    const readOnly = await attach('--read-only');
    try {
      expect(await holder(file)).toBeUndefined();
      expect(await refusal(file)).toMatchObject({ code: 'IN_USE' });
    } finally {
      await must('losetup', ['-d', readOnly]);
    }
  });
});

describe('lines of locks', () => {
  it.each([
    ['1: OFDLCK ADVISORY  READ -1 fe:00:2164001 100 101', { exclusive: false, pid: 0, start: 100, end: 101 }],
    ['lock:\t7: POSIX  ADVISORY  WRITE 42 00:1f:9 0 EOF', { exclusive: true, pid: 42, end: Infinity }],
    ['2: FLOCK  ADVISORY  WRITE 42 103:05:9 0 EOF', { device: '103:05', inode: 9n }],
    ['2: -> FLOCK  ADVISORY  WRITE 42 103:05:9 0 EOF', undefined],
    ['3: LEASE  ACTIVE    READ  42 fe:00:9 0 EOF', undefined],
    ['rubbish', undefined],
    ['', undefined],
  ])('%s', (line, expected) => {
    const parsed = parseLockLine(line);
    if (expected) expect(parsed).toMatchObject(expected);
    else expect(parsed).toBeUndefined();
  });

  const range = (start: number, end: number, exclusive = false) => ({
    exclusive,
    pid: 0,
    device: '0:0',
    inode: 1n,
    start,
    end,
  });
  it.each([
    ['QEMU reading', range(100, 100), false, false],
    ['QEMU writing', range(100, 101), true, true],
    ['QEMU resizing', range(103, 103), true, true],
    ['QEMU forbidding to write', range(201, 201), false, true],
    ['QEMU forbidding to resize', range(202, 204), false, true],
    ['somebody’s shared lock', range(0, Number.POSITIVE_INFINITY), false, true],
    ['somebody’s exclusive lock', range(0, 0, true), true, true],
  ])('%s', (_name, parsed, writes, inTheWay) => {
    expect(isInTheWay(parsed, 'writes')).toBe(writes);
    expect(isInTheWay(parsed, 'writes or forbids writing')).toBe(inTheWay);
  });
});

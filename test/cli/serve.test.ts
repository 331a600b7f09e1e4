/** `vhdkit serve` as a process: what it says, how signals end it, and other programs as clients. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { assertSound, contentOf, makeImage } from '../support/device-kit.js';
import { lacking } from '../support/requires.js';
import { must, PROJECT_ROOT, run, vhdkit } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const MiB = 1 << 20;

interface Running {
  child: ChildProcess;
  stdout: () => string;
  stderr: () => string;
  /** The exit code. */
  ended: Promise<number | null>;
}

/** Starts the command and waits until it says something on stdout. */
async function started(args: readonly string[]): Promise<Running> {
  const child = spawn(process.execPath, [BIN, 'serve', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const said = new Promise<void>((resolve) => {
    child.stdout?.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      resolve();
    });
  });
  await Promise.race([said, ended]);
  return { child, stdout: () => stdout, stderr: () => stderr, ended };
}

async function image(): Promise<{ folder: string; disk: string; socket: string; content: Buffer }> {
  const folder = testFolder('serve');
  const shape = { format: 'vhdx', type: 'dynamic', size: 4 * MiB, blockSize: MiB } as const;
  const { path: disk, content } = await makeImage(folder, shape);
  return { folder, disk, socket: path.join(folder, 's'), content };
}

const lacks = lacking('qemu-io', 'qemu-img');

describe.skipIf(lacks)(`serve${lacks}`, () => {
  test.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('writes of qemu-io are there after %s, exit %i', async (signal, expected) => {
    const { folder, disk, socket, content } = await image();
    const server = await started([disk, '--listen', `unix:${socket}`, '--name', 'a/b', '--json', '-v']);
    const { exports, schemaVersion, pid } = JSON.parse(server.stdout());
    expect({ schemaVersion, pid }).toEqual({ schemaVersion: 1, pid: server.child.pid });
    const uri = exports[0].uris[0] as string;
    // No flush: the server sees to it.
    await must('qemu-io', ['-t', 'unsafe', '-f', 'raw', uri, '-c', 'write -P 0xab 1000 70000']);
    const second = await vhdkit(['serve', disk, '--listen', `unix:${socket}2`, '--json']);
    expect(second.status).toBe(1);
    expect(JSON.parse(second.stdout).error).toMatchObject({ code: 'IN_USE', context: { pid } });
    server.child.kill(signal);
    expect(await server.ended).toBe(expected);
    expect(server.stderr()).toMatch(/client 1 uses 'a\/b'/);
    content.fill(0xab, 1000, 71_000);
    expect((await contentOf(disk)).equals(content)).toBe(true);
    await assertSound(disk);
    expect(readdirSync(folder)).toEqual(['disk.vhdx']);
  });

  test('a read-only chain compares equal for qemu-img, and is told in words', async () => {
    const { disk, socket } = await image();
    const server = await started([disk, '--read-only', '--listen', `unix:${socket}`]);
    expect(server.stdout()).toMatch(
      /^Serving .*disk\.vhdx \(vhdx, dynamic, 4 MiB, read only\)\n {2}nbd\+unix:/,
    );
    const uri = `nbd+unix:///disk.vhdx?socket=${socket}`;
    await must('qemu-img', ['compare', '-f', 'raw', '-F', 'vhdx', uri, disk]);
    const refused = await run('qemu-io', ['-f', 'raw', uri, '-c', 'write 0 512']);
    expect(refused.stderr.toString() + refused.stdout.toString()).toMatch(
      /read.?only|not permitted|permission denied/i,
    );
  });

  test('a killed server leaves its sockets, and the next one takes their place', async () => {
    const { folder, disk, socket } = await image();
    const args = [
      disk,
      '--listen',
      `unix:${socket}`,
      '--control',
      path.join(folder, 'c'),
      '--overlay',
      'temp',
    ];
    const first = await started(args);
    first.child.kill('SIGKILL');
    await first.ended;
    expect(existsSync(socket)).toBe(true);
    const second = await started(args);
    second.child.kill('SIGTERM');
    expect(await second.ended).toBe(143);
    expect(readdirSync(folder)).toEqual(['disk.vhdx']);
  });
});

test.each([
  [['x.img', '--listen', 'nowhere:x'], 'Not an address'],
  [['x.img', '--tls-cert', 'a'], 'TLS takes a certificate and its key'],
  [['x.img', '--name', 'a', '--name', 'b'], 'more names than images'],
  [['x.img', '--overlay', 'temp', '--read-only'], 'overlay'],
])('%j is refused with what is wrong', async (args, message) => {
  const { status, stderr } = await vhdkit(['serve', ...args]);
  expect(status).toBe(64);
  expect(stderr.toString()).toContain(message);
  expect(stderr.toString()).toContain('hint: ');
});

/**
 * Tokens of an image that is served and written to by clients that are not ours: what they do not touch lives on, while
 * the server runs, after it, and after it was killed.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { isVhdkitError } from '../../src/base/errors.js';
import { create } from '../../src/operations/create.js';
import { systemHost } from '../../src/operations/host.js';
import { openTokenBytes } from '../../src/operations/token/cat.js';
import { readToken } from '../../src/operations/token/read.js';
import { write } from '../../src/operations/write.js';
import { makeChildProgram } from '../support/child-program.js';
import { nbdsh } from '../support/nbd-kit.js';
import { lacking } from '../support/requires.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder } from '../support/tmp.js';

const run = promisify(execFile);
const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 8 * MiB;
const CHUNK = 64 * KiB;
const host = systemHost();
const data = seededBytes(SIZE, 7);
let child: string;
let folder: string;
const at = (name: string): string => path.join(folder, name);

beforeAll(async () => {
  child = await makeChildProgram('serve-child');
});

beforeEach(() => {
  folder = makeTempFolder('serve-tokens');
  vi.stubEnv('XDG_STATE_HOME', at('state'));
});
afterAll(() => vi.unstubAllEnvs());

async function makeImage(name: string): Promise<void> {
  if (name.endsWith('.img')) return fs.writeFile(at(name), data);
  await create(host, { path: at(name), size: SIZE, blockSize: MiB });
  const input = {
    async *[Symbol.asyncIterator]() {
      yield data;
    },
  };
  await write(host, { path: at(name), input });
}

async function bind(name: string, offset: number): Promise<void> {
  await readToken(host, { path: at(name), output: at(`${offset}.tok`), offset, length: CHUNK });
}

/** What a token gives: 'same' is what it was bound to. */
async function look(offset: number): Promise<string> {
  try {
    const bytes = await openTokenBytes(host, { tokens: at(`${offset}.tok`) });
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of bytes.chunks()) chunks.push(Uint8Array.from(chunk));
    } finally {
      await bytes.close();
    }
    return Buffer.concat(chunks).equals(data.subarray(offset, offset + CHUNK)) ? 'same' : 'OTHER BYTES';
  } catch (error) {
    return isVhdkitError(error) ? error.code : String(error);
  }
}

/** As soon as the server had a moment. */
async function comesBack(offset: number): Promise<void> {
  await vi.waitFor(async () => expect(await look(offset)).toBe('same'), { timeout: 10_000, interval: 50 });
}

interface Server {
  uri: string;
  socket: string;
  end(signal: NodeJS.Signals): Promise<void>;
}

async function start(name: string): Promise<Server> {
  const socket = at('s');
  const options = { images: [{ path: at(name), name: 'disk' }], listen: [{ path: socket }] };
  const server: ChildProcess = spawn(process.execPath, [child, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()));
  onTestFinished(() => void server.kill('SIGKILL'));
  await new Promise<void>((resolve, reject) => {
    server.stdout?.once('data', () => resolve());
    server.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    server.kill(signal);
    await ended;
    await fs.rm(socket, { force: true });
  };
  return { uri: `nbd+unix:///disk?socket=${socket}`, socket, end };
}

async function io({ uri }: Server, ...commands: string[]): Promise<void> {
  const { stdout, stderr } = await run('qemu-io', [
    '-f',
    'raw',
    ...commands.flatMap((each) => ['-c', each]),
    uri,
  ]);
  expect(`${stdout}${stderr}`).not.toMatch(/failed|error/i);
}

const missing = lacking('qemu-io', 'nbdsh');

describe.skipIf(missing !== '')(`tokens of what is served${missing}`, () => {
  it.each(['disk.img', 'disk.vhdx'])('%s: what clients do not write to lives on', async (name) => {
    await makeImage(name);
    for (const offset of [0, MiB, 4 * MiB]) await bind(name, offset);
    const server = await start(name);
    expect([await look(0), await look(MiB)]).toEqual(['same', 'same']);
    await io(server, `write -P 7 ${MiB} 4k`, `write -P 7 ${MiB + CHUNK} 4k`);
    expect(await look(MiB)).toBe('SOURCE_CHANGED');
    await comesBack(4 * MiB);
    await comesBack(0);
    // The moment is over for the one that was written to as well.
    expect(await look(MiB)).toBe('SOURCE_CHANGED');
    await io(server, 'write -P 9 60k 8k', 'discard 6M 1M');
    await comesBack(4 * MiB);
    expect(await look(0)).toBe('SOURCE_CHANGED');
    // What is not settled with when it ends is settled with then.
    await io(server, 'write -P 9 7M 8k');
    await server.end('SIGTERM');
    expect([await look(0), await look(MiB), await look(4 * MiB)]).toEqual([
      'SOURCE_CHANGED',
      'SOURCE_CHANGED',
      'same',
    ]);
  });

  it('killed: no token is alive over changed bytes, and what was settled stays', async () => {
    const offsets = [0, 3 * MiB, 4 * MiB, 7 * MiB];
    for (const when of ['in a pause', 'after a pause'] as const) {
      await makeImage('disk.img');
      for (const offset of offsets) {
        await fs.rm(at(`${offset}.tok`), { force: true });
        await bind('disk.img', offset);
      }
      const server = await start('disk.img');
      // The first half is written to; nobody waits for the end of the last run.
      const script = (seconds: number): string => `
import random, time
h.connect_unix(${JSON.stringify(server.socket)})
end = time.monotonic() + ${seconds}
while time.monotonic() < end:
    h.pwrite(bytes([random.randrange(256)]) * 4096, random.randrange(${SIZE / 2 / 4096}) * 4096)
`;
      await nbdsh(script(0.2));
      for (const offset of offsets.slice(2)) await comesBack(offset);
      if (when !== 'in a pause') {
        const cut = nbdsh(script(5)).catch(() => undefined);
        await new Promise((resolve) => setTimeout(resolve, 400));
        await server.end('SIGKILL');
        await cut;
      } else await server.end('SIGKILL');
      const states = await Promise.all(offsets.map(look));
      expect(states).not.toContain('OTHER BYTES');
      // A slow machine may pause by itself.
      if (when === 'in a pause') expect(new Set(states.slice(2))).toEqual(new Set(['same']));
    }
  });
});

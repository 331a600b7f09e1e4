/** How tokens end, with real processes: limits, holders that die, revocation against a running write. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { makeChildProgram } from '../support/child-program.js';
import { PROJECT_ROOT, vhdkit, vhdkitJson } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
/** The long race is for the long run. */
const ROUNDS = process.env.VHDKIT_SOAK ? 250 : 80;
let root: string;
beforeAll(() => {
  root = makeTempFolder('token-life-cli');
});

interface Listed {
  id: string;
  state: string;
  priority: number;
  owner: { pid: number } | null;
  limit: string | null;
  usedUntil: number | null;
}

/** Runs `token` with a store and an image of its own. */
class Tokens {
  readonly folder: string;
  readonly store: string;
  constructor(name: string, size = MiB) {
    this.folder = path.join(root, name);
    this.store = path.join(this.folder, 'store');
    mkdirSync(this.folder);
    writeFileSync(this.at('a.img'), seededBytes(size, 1));
    writeFileSync(this.at('lun.img'), '');
    truncateSync(this.at('lun.img'), size);
  }
  at(name: string): string {
    return path.join(this.folder, name);
  }
  json(...args: string[]) {
    return vhdkitJson(['token', ...args, '--token-store', this.store], { cwd: this.folder });
  }
  /** Code and reason of the error that the command ends with. */
  async refused(...args: string[]): Promise<string> {
    const { status, stdout } = await vhdkit(['token', ...args, '--token-store', this.store, '--json'], {
      cwd: this.folder,
    });
    expect(status).not.toBe(0);
    const { error } = JSON.parse(stdout) as { error: { code: string; context: { reason?: string } } };
    return error.context.reason === undefined ? error.code : `${error.code} ${error.context.reason}`;
  }
  async list(): Promise<Listed[]> {
    return (await this.json('list')).tokens as Listed[];
  }
  /** Starts a command that goes on until it is told to stop. */
  start(...args: string[]): { child: ChildProcess; output: () => string; exited: Promise<unknown> } {
    const bin = path.join(PROJECT_ROOT, 'bin/run.js');
    const child = spawn(process.execPath, [bin, 'token', ...args, '--token-store', this.store, '--json'], {
      cwd: this.folder,
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    const exited = once(child, 'exit').then(([code]) => code as unknown);
    onTestFinished(async () => {
      child.kill('SIGKILL');
      await exited;
    });
    return { child, output: () => output, exited };
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('it never came to be');
}

const isJson = (text: string): boolean => text.trimEnd().endsWith('}');

test('limits are shown, kept, and taken away', async () => {
  const tokens = new Tokens('limits');
  const none = {
    tokens: { used: 0, limit: null },
    keptBytes: { used: 0, limit: null },
    memory: { limit: null },
  };
  expect(await tokens.json('limits')).toMatchObject(none);
  await tokens.json('limits', '--tokens', '2', '--kept', '1G', '--memory', '1M');
  await tokens.json('read', 'a.img', '-o', 'low.tok', '--priority', '-1');
  for (const name of ['b', 'c']) await tokens.json('read', 'a.img', '-o', `${name}.tok`);
  const { tokens: listed, limits } = await tokens.json('list');
  expect(limits).toEqual({
    tokens: { used: 2, limit: 2 },
    keptBytes: { used: 0, limit: 2 ** 30 },
    memory: { limit: MiB },
  });
  const [low, ...others] = listed as Listed[];
  expect(low).toMatchObject({ state: 'evicted', limit: 'tokens', priority: -1 });
  expect(others.map(({ state }) => state)).toEqual(['valid', 'valid']);
  expect(await tokens.refused('write', 'low.tok', 'lun.img')).toBe('TOKEN_INVALID evicted');
  expect(await tokens.refused('read', 'a.img', '-o', 'd.tok', '--priority', '-2')).toBe(
    'TOKEN_LIMIT token-limit',
  );
  expect((await tokens.json('list')).refusals).toEqual({ evicted: 1, limit: 1 });
  expect(await tokens.json('limits', '--tokens', 'none')).toMatchObject({ tokens: { used: 2, limit: null } });
  expect(await tokens.refused('limits', '--memory', '1K')).toBe('INVALID_ARGUMENT');
});

describe('a held token', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('ends with the command that holds it, by %s', async (signal) => {
    const tokens = new Tokens(`held-${signal}`);
    const { child, output, exited } = tokens.start('read', 'a.img', '-o', 't.tok', '--hold');
    await until(() => isJson(output()));
    expect(JSON.parse(output())).toMatchObject({ held: true });
    expect(await tokens.list()).toMatchObject([{ state: 'valid', owner: { pid: child.pid } }]);
    await tokens.json('write', 't.tok', 'lun.img');
    child.kill(signal);
    expect(await exited).toBe(0);
    expect(await tokens.list()).toMatchObject([{ state: 'closed' }]);
    expect(await tokens.refused('write', 't.tok', 'lun.img')).toBe('TOKEN_INVALID closed');
  });

  test('ends with a command that is killed; a write that had begun finishes', async () => {
    const tokens = new Tokens('killed', 4 * MiB);
    const holder = tokens.start('read', 'a.img', '-o', 't.tok', '--hold');
    await until(() => isJson(holder.output()));
    const write = tokens.start('write', 't.tok', 'lun.img', '--provider', 'buffered', '--rate', '1M');
    await until(async () => (await tokens.list()).some(({ usedUntil }) => usedUntil !== null));
    holder.child.kill('SIGKILL');
    await holder.exited;
    expect(await tokens.list()).toMatchObject([{ state: 'closed' }]);
    expect(await tokens.refused('write', 't.tok', 'lun.img')).toBe('TOKEN_INVALID closed');
    expect(await write.exited).toBe(0);
    expect(readFileSync(tokens.at('lun.img')).equals(readFileSync(tokens.at('a.img')))).toBe(true);
  });
});

describe('revocation while a write goes on', () => {
  async function running(name: string, rate: string, ...args: string[]) {
    const tokens = new Tokens(name, 4 * MiB);
    await tokens.json('read', 'a.img', '-o', 't.tok');
    const write = tokens.start(
      'write',
      't.tok',
      'lun.img',
      '--provider',
      'buffered',
      '--rate',
      rate,
      ...args,
    );
    await until(async () => (await tokens.list()).some(({ usedUntil }) => usedUntil !== null));
    return { tokens, write };
  }

  test('an order stops it if so asked, within about a second, and what is there is said', async () => {
    const { tokens, write } = await running('abort', '512K', '--on-revoke', 'abort');
    await tokens.json('revoke', 't.tok');
    const revoked = Date.now();
    expect(await write.exited).toBe(1);
    // Two polls, and whatever a busy machine adds.
    expect(Date.now() - revoked).toBeLessThan(5000);
    const { error } = JSON.parse(write.output()) as {
      error: { code: string; message: string; context: object };
    };
    expect(error).toMatchObject({ code: 'TOKEN_INVALID', context: { reason: 'revoked', target: 'lun.img' } });
    expect(error.message).toContain('holds a part');
    expect(readFileSync(tokens.at('lun.img')).equals(readFileSync(tokens.at('a.img')))).toBe(false);
    expect((await tokens.json('list')).refusals).toEqual({ revoked: 1 });
  });

  test.each([
    ['an order lets it finish if not asked otherwise', 'order', []],
    ['a hint lets it finish, whatever was asked', 'hint', ['--hint']],
  ])('%s; no other begins', async (_, name, hint) => {
    const args = name === 'hint' ? ['--on-revoke', 'abort'] : [];
    const { tokens, write } = await running(name, '1M', ...args);
    const result = await tokens.json('revoke', 't.tok', ...hint);
    expect(result).toMatchObject(
      name === 'hint' ? { leaving: [expect.any(String)] } : { revoked: [expect.any(String)] },
    );
    expect(await tokens.refused('write', 't.tok', 'a.img')).toBe('TOKEN_INVALID revoked');
    expect(await write.exited).toBe(0);
    expect(readFileSync(tokens.at('lun.img')).equals(readFileSync(tokens.at('a.img')))).toBe(true);
    expect((await tokens.list())[0]?.state).toBe('revoked');
  });
});

test('processes that bind and use at the same time stay within the limit, and evict nothing in use', async () => {
  const tokens = new Tokens('race');
  await tokens.json('limits', '--tokens', '6');
  const program = await makeChildProgram('token-life-child');
  const run = async (role: string, name: string, rounds: number): Promise<string[]> => {
    const log = tokens.at(`${name}.log`);
    const args = [role, tokens.store, tokens.at('a.img'), tokens.at('all.tok'), log, String(rounds)];
    const child = spawn(process.execPath, [program, ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    return readFileSync(log, 'utf8').trim().split('\n');
  };
  const logs = await Promise.all([
    run('bind', 'b0', ROUNDS),
    run('bind', 'b1', ROUNDS),
    run('use', 'u0', ROUNDS),
    run('use', 'u1', ROUNDS),
  ]);
  for (const log of logs) {
    expect(log).toEqual([expect.stringMatching(/^worked \d+$/)]);
    expect(Number(log[0]?.slice('worked '.length))).toBeGreaterThan(10);
  }
  const { limits } = await tokens.json('list');
  expect(limits).toMatchObject({ tokens: { used: 6, limit: 6 } });
});

/** The LMDB token store under several processes at once, some of them killed in the middle. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { nativeCalls } from '../../../../src/native/native.js';
import { openLmdbStore } from '../../../../src/offload/store/lmdb-store.js';
import { sampleRecord } from '../../../conformance/token-store.suite.js';
import { makeChildProgram } from '../../../support/child-program.js';
import { testFolder } from '../../../support/tmp.js';
import { besideHolder } from '../../../support/turn-holder.js';

let program: string;
beforeAll(async () => {
  program = await makeChildProgram('token-store-child');
});

interface Worker {
  child: ChildProcess;
  log: string;
  ended: Promise<number | null>;
}

function work(store: string, folder: string, name: string, rounds: number): Worker {
  const log = path.join(folder, `${name}.log`);
  const args = [program, store, log, name, String(rounds)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  return { child, log, ended: new Promise((resolve) => child.once('exit', resolve)) };
}

/** What a worker was told, whole lines only. */
function told({ log }: Worker): { key: string | undefined; revisions: number[] } {
  const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n').slice(0, -1) : [];
  const [first, ...rest] = lines;
  return { key: first?.slice('key '.length), revisions: rest.map(Number) };
}

async function until(condition: () => boolean): Promise<void> {
  for (let attempt = 0; attempt < 1200 && !condition(); attempt += 1)
    await new Promise((resolve) => setTimeout(resolve, 25));
  expect(condition()).toBe(true);
}

describe('processes that share an LMDB token store', () => {
  it('lose no update, though some are killed, and agree on the key', async () => {
    const folder = testFolder('lmdb-processes');
    const location = path.join(folder, 'store');
    const store = await openLmdbStore(location);
    await store.put(sampleRecord('shared', 0));
    const steady = ['a', 'b'].map((name) => work(location, folder, name, 400));
    const killed: Worker[] = [];
    for (const name of ['k0', 'k1', 'k2']) {
      const victim = work(location, folder, name, 1_000_000);
      killed.push(victim);
      // Somewhere in its work: after a number of rounds that differs from victim to victim.
      await until(() => told(victim).revisions.length > 20 + killed.length * 17);
      victim.child.kill('SIGKILL');
      await victim.ended;
    }
    expect(await Promise.all(steady.map(({ ended }) => ended))).toEqual([0, 0]);

    const answers = [...steady, ...killed].map(told);
    const key = Buffer.from(await store.key()).toString('hex');
    expect(answers.map((answer) => answer.key)).toEqual(answers.map(() => key));
    const revisions = answers.flatMap((answer) => answer.revisions);
    expect(new Set(revisions).size).toBe(revisions.length);
    // A process that was killed may have made one change that nobody heard of.
    const shared = await store.get('shared');
    const counted = shared?.record.lastUsed ?? 0;
    expect(counted).toBeGreaterThanOrEqual(revisions.length);
    expect(counted).toBeLessThanOrEqual(revisions.length + killed.length);
    expect(shared?.revision).toBeGreaterThanOrEqual(Math.max(...revisions));
    let left = 0;
    for await (const { record } of store.list()) left += record.id === 'shared' ? 0 : 1;
    expect(left).toBeLessThanOrEqual(killed.length);
    await store.close();
    // Whoever closes last has flushed for those that could not.
    expect(readdirSync(location).filter((name) => name.startsWith('unsynced'))).toEqual([]);
  });

  it('lose no update to those that only open it and close it again', async () => {
    const folder = testFolder('lmdb-opened');
    const location = path.join(folder, 'store');
    const store = await openLmdbStore(location);
    await store.put(sampleRecord('shared', 0));
    await store.close();
    const workers = ['a', 'b'].map((name) => work(location, folder, name, 600));
    const ended = Promise.all(workers.map((worker) => worker.ended));
    let working = true;
    void ended.finally(() => {
      working = false;
    });
    while (working) await (await openLmdbStore(location)).close();
    expect(await ended).toEqual([0, 0]);
    const revisions = workers.flatMap((worker) => told(worker).revisions);
    expect(new Set(revisions).size).toBe(revisions.length);
    const after = await openLmdbStore(location);
    onTestFinished(() => after.close());
    expect((await after.get('shared'))?.record.lastUsed).toBe(1200);
  });

  it.skipIf(!nativeCalls())(
    'wait for each other when they open, change and close, not when they read',
    async () => {
      const folder = testFolder('lmdb-turns');
      const store = await openLmdbStore(folder);
      await store.put(sampleRecord('a'));
      const turns = path.join(folder, 'turns.lock');
      const read = await besideHolder(turns, () => store.get('a'));
      const change = await besideHolder(turns, () => store.put(sampleRecord('b')));
      const open = await besideHolder(turns, () => openLmdbStore(folder));
      const close = await besideHolder(turns, () => open.result.close());
      await store.close();
      expect(read.result).toBeDefined();
      expect([read, change, open, close].map(({ waited }) => waited)).toEqual([false, true, true, true]);
    },
  );

  it('agree on the key when they are the first at the same time', async () => {
    const folder = testFolder('lmdb-first');
    const location = path.join(folder, 'store');
    const workers = ['a', 'b', 'c'].map((name) => work(location, folder, name, 0));
    expect(await Promise.all(workers.map(({ ended }) => ended))).toEqual([0, 0, 0]);
    const keys = workers.map((worker) => told(worker).key);
    expect(keys[0]).toMatch(/^[0-9a-f]{64}$/);
    expect(new Set(keys).size).toBe(1);
  });

  it('take a store that another one is making for what it is a moment later', async () => {
    const folder = testFolder('lmdb-making');
    const made = path.join(folder, 'made');
    await (await openLmdbStore(made)).close();
    const whole = readFileSync(path.join(made, 'data.mdb'));
    for (const there of [100, 4096]) {
      const place = path.join(folder, `half-${there}`);
      mkdirSync(place, { mode: 0o700 });
      const data = path.join(place, 'data.mdb');
      writeFileSync(data, whole.subarray(0, there), { mode: 0o600 });
      const rest = setTimeout(() => writeFileSync(data, whole), 30);
      onTestFinished(() => clearTimeout(rest));
      await (await openLmdbStore(place)).close();
    }
  });

  it.skipIf(!existsSync('/proc/locks'))('know of each other when one of them has it open twice', async () => {
    const folder = testFolder('lmdb-twice');
    const stores = [await openLmdbStore(folder), await openLmdbStore(folder)];
    onTestFinished(async () => {
      for (const store of stores) await store.close();
    });
    // By this lock the next process learns that it is not the first, who makes the lock file anew.
    const { ino } = statSync(path.join(folder, 'lock.mdb'));
    const locks = readFileSync('/proc/locks', 'latin1').split('\n');
    const mine = locks.filter((line) => line.includes(` ${process.pid} `) && line.includes(`:${ino} 0 0`));
    expect(mine).toEqual([expect.stringMatching(/POSIX +ADVISORY +READ/)]);
  });
});

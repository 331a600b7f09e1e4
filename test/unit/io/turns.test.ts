/** Turns of one process, and after a dead holder. Those of several are tried by the LMDB store, who takes them. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { fileTurns, openTurns } from '../../../src/io/turns.js';
import { nativeCalls } from '../../../src/native/native.js';
import { testFolder } from '../../support/tmp.js';

describe.skipIf(!nativeCalls())('turns by locks of the system', () => {
  it('are over when the work throws', () => {
    const file = path.join(testFolder('turns'), 'turns.lock');
    const both = [openTurns(file), openTurns(file)];
    const fail = (): never => {
      throw new Error('no');
    };
    for (const turns of both) expect(() => turns.take(fail)).toThrow('no');
    for (const turns of both) turns.close();
  });
});

describe('turns by lock files', () => {
  it('come one after the other, whatever the work does', async () => {
    const file = path.join(testFolder('turns'), 'turns.lock');
    const [a, b] = [fileTurns(file), fileTurns(file)];
    const holder = `${file}.holder`;
    const done: number[] = [];
    const work = (number: number) => () => {
      expect(readFileSync(holder, 'utf8')).toBe(`${process.pid} ${hostname()}\n`);
      done.push(number);
      if (number === 1) throw new Error('no');
      return number;
    };
    const results = await Promise.allSettled([a.take(work(0)), b.take(work(1)), a.take(work(2))]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(done).toEqual([0, 1, 2]);
    expect(existsSync(holder)).toBe(false);
  });

  it('do not wait for a process that is gone, but for one that is there', async () => {
    const file = path.join(testFolder('turns'), 'turns.lock');
    const turns = fileTurns(file);
    writeFileSync(`${file}.holder`, `4194400 ${hostname()}\n`);
    expect(await turns.take(() => 1)).toBe(1);
    writeFileSync(`${file}.holder`, `1 ${hostname()}\n`);
    let done = false;
    const waiting = Promise.resolve(turns.take(() => 2)).finally(() => {
      done = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(done).toBe(false);
    writeFileSync(`${file}.holder`, `4194400 ${hostname()}\n`);
    expect(await waiting).toBe(2);
  });
});

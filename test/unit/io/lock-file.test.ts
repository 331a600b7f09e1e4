/**
 * Locks that name their owner, and outlive it only on paper.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { takeLock } from '../../../src/io/lock-file.js';
import { testFolder } from '../../support/tmp.js';

const lockIn = (folder: string): string => join(folder, '.disk.lock');

/** The id of a process that has ended. */
function deadPid(): number {
  const { pid } = spawnSync('true');
  return pid;
}

describe('takeLock', () => {
  it('refuses a second owner by process id, until the first lets go', async () => {
    const path = lockIn(testFolder());
    const lock = await takeLock(path, 'disk.img');
    await expect(takeLock(path, 'disk.img')).rejects.toMatchObject({
      code: 'IN_USE',
      message: expect.stringContaining(`process ${process.pid}`),
      context: { path: 'disk.img', pid: process.pid },
    });
    await lock.release();
    await lock.release();
    await (await takeLock(path, 'disk.img')).release();
  });

  it('takes over the lock of a process that is gone, and its leftovers', async () => {
    const folder = testFolder();
    const path = lockIn(folder);
    const pid = deadPid();
    await fs.writeFile(path, `${pid} ${hostname()}\n`);
    await fs.writeFile(`${path}.${pid}`, '');
    const lock = await takeLock(path, 'disk.img');
    expect(await fs.readFile(path, 'utf8')).toContain(`${process.pid} `);
    await lock.release();
    expect(await fs.readdir(folder)).toEqual([]);
  });

  it('takes over a lock that says nothing', async () => {
    const folder = testFolder();
    await fs.writeFile(lockIn(folder), 'rubbish');
    await (await takeLock(lockIn(folder), 'disk.img')).release();
    expect(await fs.readdir(folder)).toEqual([]);
  });

  it('respects an owner on another host, alive or not', async () => {
    const path = lockIn(testFolder());
    await fs.writeFile(path, `${deadPid()} elsewhere.example\n`);
    await expect(takeLock(path, 'disk.img')).rejects.toMatchObject({
      code: 'IN_USE',
      hint: expect.stringContaining(path),
    });
  });

  it('gives the lock to one of several that want it at once', async () => {
    const path = lockIn(testFolder());
    await fs.writeFile(path, `${deadPid()} ${hostname()}\n`);
    const taken = await Promise.allSettled(Array.from({ length: 8 }, () => takeLock(path, 'disk.img')));
    expect(taken.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('says when there is no such folder', async () => {
    await expect(takeLock(join(testFolder(), 'no', 'lock'), 'disk.img')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
  });
});

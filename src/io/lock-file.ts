/**
 * Advisory locks as small files beside what they protect: portable, and they name their owner.
 *
 * The lock file holds the owner's process id and host. A lock whose owner on this host is gone is stale and
 * taken over; one from another host is respected, because nobody here can tell.
 *
 * Invariant: the file appears complete (written aside, then linked), and of several processes that want it
 * at once one gets it. Not a protection against programs that do not look for it.
 */
import * as fs from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fromSystemError, systemCode, VhdkitError } from '../base/errors.js';
import type { HeldLock } from './file-system.js';

export interface LockOwner {
  pid: number;
  host: string;
}

function parseOwner(text: string): LockOwner | undefined {
  const [pid, host] = text.trim().split(' ');
  return pid && host && /^\d{1,10}$/.test(pid) ? { pid: Number(pid), host } : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}

function inUse(what: string, path: string, owner: LockOwner): VhdkitError {
  return new VhdkitError('IN_USE', `${what} is in use by process ${owner.pid} on ${owner.host}`, {
    operation: 'lock',
    context: { path: what, pid: owner.pid, host: owner.host },
    hint: `Wait for it to end. If it is certain that it runs no more, remove ${path}.`,
  });
}

/** A name beside the lock that only this process uses. */
function asideOf(path: string): string {
  return `${path}.${process.pid}`;
}

/** Removes what processes that were killed while they wanted the lock left beside it. */
async function sweep(path: string): Promise<void> {
  const folder = dirname(path);
  const prefix = `${basename(path)}.`;
  for (const name of await fs.readdir(folder).catch(() => [])) {
    const pid = name.startsWith(prefix) ? name.slice(prefix.length) : '';
    if (/^\d{1,10}$/.test(pid) && !isAlive(Number(pid))) await fs.rm(join(folder, name), { force: true });
  }
}

/** Makes `path` appear with its content already in it. */
async function appear(aside: string, path: string, content: string): Promise<void> {
  try {
    await fs.link(aside, path);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') throw error;
    // No hard links on this file system (FAT, some network mounts).
    await fs.writeFile(path, content, { flag: 'wx' });
  }
}

/** Takes a stale lock out of the way; undefined when it was not stale after all, or somebody else did it. */
async function removeStale(path: string, stale: string): Promise<void> {
  const aside = asideOf(path);
  try {
    await fs.rename(path, aside);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  // Between reading and renaming, another process may have put its own, live lock there: give it back.
  if ((await fs.readFile(aside, 'utf8')) !== stale) await fs.link(aside, path).catch(() => undefined);
  await fs.rm(aside, { force: true });
}

/**
 * Takes the lock `path` that protects `what`.
 * @throws IN_USE with the owner's process id, PERMISSION_DENIED, NOT_FOUND (no such folder), IO_FAILED
 */
export async function takeLock(path: string, what: string): Promise<HeldLock> {
  const mine = `${process.pid} ${hostname() || 'localhost'}\n`;
  const aside = asideOf(path);
  try {
    await fs.writeFile(aside, mine);
    for (let attempt = 0; ; attempt += 1) {
      try {
        await appear(aside, path, mine);
        break;
      } catch (error) {
        if (systemCode(error) !== 'EEXIST' || attempt >= 5) throw error;
      }
      const text = await fs.readFile(path, 'utf8').catch(() => undefined);
      if (text === undefined) continue;
      const owner = parseOwner(text);
      const foreign = owner && owner.host !== (hostname() || 'localhost');
      if (owner && (foreign || isAlive(owner.pid))) throw inUse(what, path, owner);
      await removeStale(path, text);
      await fs.writeFile(aside, mine);
    }
  } catch (error) {
    throw fromSystemError(error, `lock ${what}`, { path: what });
  } finally {
    // What went wrong before says more than that there is nothing to remove.
    await fs.rm(aside, { force: true }).catch(() => undefined);
  }
  await sweep(path);
  let held = true;
  return {
    async release() {
      if (!held) return;
      held = false;
      await fs.rm(path, { force: true });
    },
  };
}

/** Who holds the lock `path` now; undefined when nobody does, or its owner is gone. */
export async function lockOwner(path: string): Promise<LockOwner | undefined> {
  const owner = parseOwner(await fs.readFile(path, 'utf8').catch(() => ''));
  if (!owner) return undefined;
  return owner.host !== (hostname() || 'localhost') || isAlive(owner.pid) ? owner : undefined;
}

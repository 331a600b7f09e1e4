/**
 * What this machine has, asked while tests are collected: `describe.skipIf(!tool('qemu-img'))`.
 *
 * Invariant: an answer is found by trying, not by guessing from the system's name, and is found once per
 * run (later processes read it from the run's folder).
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type FileSystemKind, isRoot, loopDevice, mountNew } from './mounts.js';
import { makeTempFolder, removeFolder, runFolder } from './tmp.js';
import { findTool } from './tools.js';

export { isRoot };

/** Is the program installed? */
export function tool(name: string): boolean {
  return findTool(name) !== undefined;
}

/** Can FUSE file systems be mounted here? */
export const fuse = isRoot && existsSync('/dev/fuse');

function once(name: string, probe: () => boolean): boolean {
  const record = path.join(runFolder(), `probe-${name}`);
  if (existsSync(record)) return readFileSync(record, 'utf8') === 'yes';
  const answer = probe();
  writeFileSync(record, answer ? 'yes' : 'no');
  return answer;
}

/** Can a file system of this kind be made and mounted here? Tries it. */
export function canMount(kind: FileSystemKind): boolean {
  if (!isRoot) return false;
  return once(`mount-${kind}`, () => {
    try {
      mountNew(kind).unmount();
      return true;
    } catch {
      return false;
    }
  });
}

/** Can a file be attached as a block device here? Tries it. */
export function canLoop(): boolean {
  if (!isRoot || !tool('losetup')) return false;
  return once('loop', () => {
    const folder = makeTempFolder('loop');
    try {
      const file = path.join(folder, 'image');
      writeFileSync(file, Buffer.alloc(1 << 20));
      loopDevice(file).detach();
      return true;
    } catch {
      return false;
    } finally {
      removeFolder(folder);
    }
  });
}

/**
 * For titles: names what is missing of the programs asked for, as `` or ` (needs qemu-img, jq)`.
 * `const lacks = lacking('qemu-img'); describe.skipIf(lacks)(`compare${lacks}`, …)`
 */
export function lacking(...tools: string[]): string {
  const missing = tools.filter((name) => !tool(name));
  return missing.length === 0 ? '' : ` (needs ${missing.join(', ')})`;
}

/**
 * Images written by other programs. They belong to third parties and are not part of this project: they
 * are looked for in a folder beside it, and tests that use them skip by name without it.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from './run.js';
import { runFolder } from './tmp.js';
import { findTool } from './tools.js';

const FOLDER = path.resolve(PROJECT_ROOT, '../shared/specimens');

/**
 * The path of a specimen, decompressed into the run's folder; undefined when it (or xz) is not there.
 * Shared by all tests of the run: never write to it, copy it first.
 */
export function specimen(name: string): string | undefined {
  const source = path.join(FOLDER, `${name}.xz`);
  const xz = findTool('xz');
  if (xz === undefined || !existsSync(source)) return undefined;
  const folder = path.join(runFolder(), 'specimens');
  mkdirSync(folder, { recursive: true });
  const target = path.join(folder, name);
  if (existsSync(target)) return target;
  // Several workers may come here at once: each makes its own copy, and renaming is atomic.
  const partial = `${target}.${process.pid}.part`;
  const output = openSync(partial, 'w', 0o444);
  const result = spawnSync(xz, ['-dkc', source], { stdio: ['ignore', output, 'inherit'] });
  closeSync(output);
  if (result.status !== 0) {
    rmSync(partial, { force: true });
    throw new Error(`xz could not decompress ${source}`);
  }
  renameSync(partial, target);
  return target;
}

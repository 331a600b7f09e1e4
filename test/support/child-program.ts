/**
 * Programs that tests start and kill: one file each, made from a source in test/support, because starting must be quick
 * and dist/ may be older than the sources.
 */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { build } from 'esbuild';
import { PROJECT_ROOT } from './run.js';
import { makeTempFolder } from './tmp.js';

/** @param name of the source without `.mjs`, as `serve-child`. Answers the program's path, for `node PATH`. */
export async function makeChildProgram(name: string): Promise<string> {
  const folder = makeTempFolder(name);
  const program = path.join(folder, 'child.mjs');
  await fs.symlink(path.join(PROJECT_ROOT, 'node_modules'), path.join(folder, 'node_modules'));
  const entry = path.join(PROJECT_ROOT, 'test/support', `${name}.mjs`);
  const settings = { bundle: true, platform: 'node', format: 'esm', packages: 'external' } as const;
  await build({ entryPoints: [entry], outfile: program, logLevel: 'error', ...settings });
  return program;
}

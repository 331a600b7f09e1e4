/**
 * Builds the package from its sources: `node scripts/build.mjs`.
 *
 * 1. tsc writes the library, with types.
 * 2. rolldown puts the command line into a few files, so that starting it means opening few files.
 * 3. The manifest tells oclif the commands without loading them.
 *
 * Also what `npm ci` runs in a fresh clone. Everything happens in a folder beside dist/ which takes its
 * place when all is well, so a failed build leaves the last good one, and a running one does not pull
 * the files from under somebody's feet.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle, bundleVhdLib } from './bundle.mjs';
import { makeManifest, saveManifest } from './manifest.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const fresh = join(root, `.vhdkit-build-${process.pid}.tmp`);
const stale = join(root, `.vhdkit-stale-${process.pid}.tmp`);
const dist = join(root, 'dist');

function compile() {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const args = [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', fresh];
  return spawnSync(process.execPath, args, { stdio: 'inherit' }).status === 0;
}

try {
  if (compile()) {
    await bundle(root, join(fresh, 'cli'));
    await bundleVhdLib(root, join(fresh, 'operations', 'verify-vhd-lib.js'));
    const manifest = await makeManifest(root, fresh);
    if (existsSync(dist)) renameSync(dist, stale);
    renameSync(fresh, dist);
    saveManifest(root, manifest);
  } else {
    process.exitCode = 1;
  }
} finally {
  for (const folder of [fresh, stale]) rmSync(folder, { recursive: true, force: true });
}

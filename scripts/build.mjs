/**
 * Builds the package from its sources: `node scripts/build.mjs`.
 *
 * 1. tsc writes dist/ (the library, with types).
 * 2. esbuild puts the command line into a few files, so that starting it means opening few files.
 * 3. The manifest tells oclif the commands without loading them.
 *
 * Also what `npm ci` runs in a fresh clone. Ends with a non-zero code when any step fails.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.mjs';
import { writeManifest } from './manifest.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);

rmSync(join(root, 'dist'), { recursive: true, force: true });
const tsc = spawnSync(
  process.execPath,
  [require.resolve('typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json')],
  { stdio: 'inherit' },
);
if (tsc.status !== 0) process.exit(tsc.status ?? 1);
await bundle(root);
await writeManifest(root);

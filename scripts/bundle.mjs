/**
 * Puts the command line into a few files: one per command plus the parts they share.
 *
 * Why: every module costs about half a millisecond at start, and a command needs some fifty of them.
 * Packages stay outside (oclif finds its own files by their place). The library in dist/ is not touched.
 */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

export async function bundle(root) {
  const source = join(root, 'src', 'cli');
  const out = join(root, 'dist', 'cli');
  const folder = (name) => readdirSync(join(source, name)).map((file) => join(source, name, file));
  rmSync(out, { recursive: true, force: true });
  await build({
    entryPoints: [join(source, 'main.ts'), ...folder('commands'), ...folder('hooks')],
    outbase: source,
    outdir: out,
    chunkNames: 'parts/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
}

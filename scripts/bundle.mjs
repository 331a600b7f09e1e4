/**
 * Puts the command line into a few files: one per command plus the parts they share, packages included.
 *
 * Why: every module costs about half a millisecond at start, and oclif alone has more than a hundred.
 * The library in dist/ is left as it is, but for the one file that needs vhd-lib. koffi stays outside (it finds its binary by its place), and so
 * does typescript, which oclif mentions for programs that run from their sources.
 *
 * The licences of what is bundled go into NOTICES.txt beside it, as they demand.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

// Bundled CommonJS asks for Node's own modules by `require`, which ES modules do not have.
const REQUIRE = [
  "import { createRequire as __createRequire } from 'node:module';",
  'const require = __createRequire(import.meta.url);',
].join('\n');

/** Packages of token stores: installed if the platform has them, loaded when they are used. */
const OPTIONAL = ['lmdb', '@nats-io/*'];

/** Folders of the packages among the bundled files, by the last node_modules in their path. */
function packageFolders(inputs) {
  const folders = inputs.map((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]);
  return [...new Set(folders.filter((folder) => folder !== undefined))].sort();
}

function notice(root, folder) {
  const path = join(root, folder);
  const { name, version, license } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
  const file = readdirSync(path).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file === undefined ? '' : `\n${readFileSync(join(path, file), 'utf8').trim()}\n`;
  return `${name} ${version} (${license})\n${text}`;
}

/**
 * Puts vhd-lib's reader into the one library file that imports it, in place: 48 KB, instead of the 20 MB
 * of packages that vhd-lib would bring to everybody who installs vhdkit. Its licences are in the notices
 * of the command line, which has the same code.
 */
export async function bundleVhdLib(root, file) {
  await build({
    absWorkingDir: root,
    entryPoints: [file],
    outfile: file,
    allowOverwrite: true,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    banner: { js: REQUIRE },
    logLevel: 'warning',
  });
}

/** Bundles the command line into the folder `out`, replacing what is there. */
export async function bundle(root, out) {
  const source = join(root, 'src', 'cli');
  const folder = (name) =>
    readdirSync(join(source, name), { recursive: true })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => join(source, name, file));
  rmSync(out, { recursive: true, force: true });
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [join(source, 'main.ts'), ...folder('commands'), ...folder('hooks')],
    outbase: source,
    outdir: out,
    chunkNames: 'parts/[name]-[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    external: ['koffi', 'typescript', ...OPTIONAL],
    banner: { js: REQUIRE },
    metafile: true,
    logLevel: 'warning',
  });
  const notices = packageFolders(Object.keys(metafile.inputs)).map((entry) => notice(root, entry));
  writeFileSync(join(out, 'NOTICES.txt'), notices.join(`\n${'-'.repeat(72)}\n`));
}

/**
 * Puts the command line into a few files: one per command plus the parts they share, packages included.
 *
 * Why: starting is what a short run costs. Every file costs a fraction of a millisecond and every
 * kilobyte is read by the engine before anything runs, so commands must share few parts, and load
 * little that they do not need. A bundler left alone makes a part of every set of modules that some set
 * of commands has in common: with every command more parts, and smaller ones. The parts are therefore
 * planned: the packages, what every command has, what reading an image takes (`info`), what making and
 * editing one takes, what moving data takes, and what `convert` has besides.
 * test/cli/startup.test.ts holds the bounds.
 *
 * White space and comments go, names stay: a stack trace has to say something.
 *
 * The library in dist/ is left as it is, but for the one file that needs vhd-lib. koffi stays outside
 * (it finds its binary by its place), and so does typescript, which oclif mentions for programs that run
 * from their sources.
 *
 * The licences of what is bundled go into NOTICES.txt beside it, as they demand.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { rolldown } from 'rolldown';
import { lighterOclif } from './lighter-oclif.mjs';

/** Packages of token stores: installed if the platform has them, loaded when they are used. */
const OPTIONAL = ['lmdb', /^@nats-io\//];

const MINIFY = { compress: true, mangle: false, codegen: true };

/** From so many commands and parts on, a module counts as what moving data takes. */
const SHARED = 10;

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

/** Remembers who imports whom; `reached(files)` is all that loading these files loads. */
function importGraph() {
  const imports = new Map();
  return {
    plugin: {
      name: 'import-graph',
      moduleParsed: ({ id, importedIds }) => void imports.set(id, importedIds),
    },
    reached(files) {
      const seen = new Set();
      const open = [...files];
      for (let id = open.pop(); id !== undefined; id = open.pop()) {
        if (seen.has(id)) continue;
        seen.add(id);
        open.push(...(imports.get(id) ?? []));
      }
      return seen;
    },
  };
}

/** The parts, the most wanted first: a module goes into the first one that takes it. */
function plannedParts(root, graph) {
  const cli = join(root, 'src', 'cli') + sep;
  const loadedBy = (...names) => {
    let files;
    return (id) => {
      files ??= graph.reached(names.map((name) => join(root, 'src', ...name.split('/'))));
      return files.has(id);
    };
  };
  const formats = (name) => ['vhd', 'vhdx'].map((format) => `formats/${format}/${name}`);
  const convert = loadedBy('operations/convert.ts', 'cli/render/convert.ts');
  return [
    { name: 'packages', test: (id) => /node_modules|^\0/.test(id), minShareCount: SHARED },
    { name: 'shell', test: (id) => id.startsWith(cli), minShareCount: SHARED },
    { name: 'image', test: loadedBy('operations/host.ts', 'operations/info.ts') },
    { name: 'editing', test: loadedBy(...formats('create.ts'), ...formats('edit.ts')) },
    { name: 'transfer', test: convert, minShareCount: SHARED },
    { name: 'convert', test: convert },
  ].map((group, index) => ({ ...group, priority: 10 - index }));
}

/**
 * Puts vhd-lib's reader into the one library file that imports it, in place: 48 KB, instead of the 20 MB
 * of packages that vhd-lib would bring to everybody who installs vhdkit. Its licences are in the notices
 * of the command line, which has the same code.
 */
export async function bundleVhdLib(root, file) {
  const bundle = await rolldown({ cwd: root, input: file, platform: 'node', tsconfig: false });
  await bundle.write({ file, format: 'esm' });
}

/** Bundles the command line into the folder `out`, replacing what is there. */
export async function bundle(root, out) {
  const source = join(root, 'src', 'cli');
  const folder = (name) =>
    readdirSync(join(source, name), { recursive: true })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => join(source, name, file));
  const entries = [join(source, 'main.ts'), ...folder('commands'), ...folder('hooks')];
  const graph = importGraph();
  rmSync(out, { recursive: true, force: true });
  const bundle = await rolldown({
    cwd: root,
    input: Object.fromEntries(entries.map((file) => [relative(source, file).replace(/\.ts$/, ''), file])),
    platform: 'node',
    tsconfig: false,
    preserveEntrySignatures: 'allow-extension',
    external: ['koffi', 'typescript', ...OPTIONAL],
    plugins: [lighterOclif(), graph.plugin],
    checks: { ineffectiveDynamicImport: false },
  });
  const { output } = await bundle.write({
    dir: out,
    format: 'esm',
    chunkFileNames: 'parts/[name]-[hash].js',
    minify: MINIFY,
    comments: false,
    codeSplitting: { groups: plannedParts(root, graph) },
  });
  const inputs = output.flatMap(({ moduleIds = [] }) => moduleIds.map((id) => relative(root, id)));
  const notices = packageFolders(inputs).map((entry) => notice(root, entry));
  writeFileSync(join(out, 'NOTICES.txt'), notices.join(`\n${'-'.repeat(72)}\n`));
}

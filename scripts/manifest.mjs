/**
 * Makes oclif.manifest.json: what oclif knows of the commands without loading them.
 *
 * Uses oclif's own Plugin class, so the file is what oclif would find at run time; a command that cannot
 * be loaded fails the build.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { Plugin } from '@oclif/core/config';

/** The manifest of the commands in a build folder, as if it were dist/. */
export async function makeManifest(root, folder) {
  globalThis.oclif = { ...globalThis.oclif, enableAutoTranspile: false };
  const pjson = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const { commands } = pjson.oclif;
  const target = join(folder, relative('dist', commands.target));
  pjson.oclif.commands = { ...commands, target: `./${relative(root, target)}` };
  const plugin = new Plugin({
    root,
    pjson,
    type: 'core',
    isRoot: true,
    ignoreManifest: true,
    errorOnManifestCreate: true,
    respectNoCacheDefault: true,
  });
  await plugin.load();
  const entries = Object.entries(plugin.manifest.commands).map(([id, command]) => {
    const inside = relative(folder, join(root, ...command.relativePath));
    return [id, { ...command, relativePath: ['dist', ...inside.split(sep)] }];
  });
  entries.sort(([a], [b]) => (a < b ? -1 : 1));
  return { ...plugin.manifest, commands: Object.fromEntries(entries) };
}

export function saveManifest(root, manifest) {
  const file = join(root, 'oclif.manifest.json');
  const pending = join(root, `.vhdkit-manifest-${process.pid}.tmp`);
  writeFileSync(pending, `${JSON.stringify(manifest, null, 2)}\n`);
  renameSync(pending, file);
}

/**
 * Writes oclif.manifest.json: what oclif knows of the commands without loading them. Needs dist/.
 *
 * Uses oclif's own Plugin class, so the file is what oclif would find at run time; a command that cannot
 * be loaded fails the build.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Plugin } from '@oclif/core/config';

export async function writeManifest(root) {
  globalThis.oclif = { ...globalThis.oclif, enableAutoTranspile: false };
  const file = join(root, 'oclif.manifest.json');
  rmSync(file, { force: true });
  const plugin = new Plugin({
    root,
    type: 'core',
    isRoot: true,
    ignoreManifest: true,
    errorOnManifestCreate: true,
    respectNoCacheDefault: true,
  });
  await plugin.load();
  const { manifest } = plugin;
  const commands = Object.fromEntries(Object.entries(manifest.commands).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(file, `${JSON.stringify({ ...manifest, commands }, null, 2)}\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeManifest(dirname(dirname(fileURLToPath(import.meta.url))));
}

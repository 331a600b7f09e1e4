#!/usr/bin/env node
// The command line from its sources, without a build.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Plugin } from '@oclif/core/config';
import { register } from 'tsx/esm/api';

register();
const { main } = await import('../src/cli/main.ts');
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const pjson = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const source = (path) => path.replace('./dist/', './src/');
const { commands, hooks } = pjson.oclif;
pjson.oclif.commands = { ...commands, target: source(commands.target) };
pjson.oclif.hooks = Object.fromEntries(
  Object.entries(hooks).map(([name, path]) => [name, source(path).replace(/\.js$/, '.ts')]),
);
globalThis.oclif = { ...globalThis.oclif, enableAutoTranspile: false };
const plugin = new Plugin({ root, pjson, isRoot: true, name: pjson.name, ignoreManifest: true });
await plugin.load();
await main(process.argv.slice(2), {
  root,
  pjson,
  plugins: new Map([[plugin.name, plugin]]),
  userPlugins: false,
  devPlugins: false,
});

#!/usr/bin/env node
// The built command line. dist/ is made by `npm run build`.
import module from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

// From Node 22 on, later runs take the compiled code from a cache. It must be on before the code is loaded.
module.enableCompileCache?.();
const { main } = await import('../dist/cli/main.js');

const root = dirname(dirname(fileURLToPath(import.meta.url)));
await main(process.argv.slice(2), { root, userPlugins: false, devPlugins: false });

#!/usr/bin/env node
// The built command line. dist/ is made by `npm run build`.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { main } from '../dist/cli/main.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
await main(process.argv.slice(2), { root, userPlugins: false, devPlugins: false });

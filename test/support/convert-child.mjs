// Converts in a process of its own, to be killed: `node BUNDLE '{"source":…,"target":…}'`, where BUNDLE is this file
// with all that it imports (hundreds of starts pay for that). Says how far it is, so that the killer can aim.
import { writeSync } from 'node:fs';
import { convert } from '../../src/operations/convert.js';
import { systemHost } from '../../src/operations/host.js';

const options = JSON.parse(process.argv[2]);
writeSync(1, '0\n');
await convert(systemHost(), { ...options, progress: { update: (done) => writeSync(1, `${done}\n`) } });
writeSync(1, 'done\n');

// Serves an image in a process of its own, to be killed: `node BUNDLE '{"images":…,"listen":…}'`, where BUNDLE is this
// file with all that it imports. Says when it listens.
import { writeSync } from 'node:fs';
import { systemHost } from '../../src/operations/host.js';
import { serve } from '../../src/operations/serve.js';

const serving = await serve(systemHost(), JSON.parse(process.argv[2]));
writeSync(1, 'ready\n');
process.on('SIGTERM', () => serving.stop('signal'));
await serving.ended;
writeSync(1, 'ended\n');

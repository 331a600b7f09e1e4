/**
 * Binds and looks up many tokens in a store in a folder, in a process of its own so that its memory is only that:
 * `node tokens-child.mjs FOLDER COUNT`. Prints one JSON line.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const dist = path.resolve(import.meta.dirname, '../../dist');
const from = (name) => import(pathToFileURL(path.join(dist, name)).href);
const { nodeFileSystem } = await from('io/node-file-system.js');
const { openTokenStore } = await from('offload/store/open.js');
const { Token } = await from('offload/token.js');
const { openTokens } = await from('operations/token/store.js');
const { systemHost } = await from('operations/host.js');

const [, , folder, number] = process.argv;
const disk = path.join(folder, 'disk.img');
writeFileSync(disk, Buffer.alloc(1 << 20));

/** The system's KiB as bytes. RssFile is what is mapped: the program, and the pages of the store. */
function memory() {
  const status = readFileSync('/proc/self/status', 'utf8');
  const of = (name) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1] ?? Number.NaN) * 1024;
  return { anonymous: of('RssAnon'), mapped: of('RssFile') };
}

async function timed(times, work) {
  const started = performance.now();
  const result = await work();
  times.push((performance.now() - started) * 1000);
  return result;
}

const store = await openTokenStore(path.join(folder, 'store'));
const before = memory();
const binder = await openTokens(systemHost(), store);
const file = await nodeFileSystem.open(disk);
const [bind, first, again] = [[], [], []];
const sample = [];
for (let index = 0; index < Number(number); index += 1) {
  const range = { offset: (index % 256) * 4096, length: 4096 };
  const options = { mode: 'change-vulnerable', ttl: 3_600_000, path: disk };
  const { token } = await timed(bind, () => binder.manager.bind(file, range, options));
  if (index % 100 === 0) sample.push(token);
}
const live = memory();
// As another process does: token objects that nobody has seen.
const user = await openTokens(systemHost(), store);
for (const times of [first, again]) {
  for (const token of sample) {
    const copy = new Token(token.toBytes());
    await timed(times, () => user.manager.resolve(copy));
  }
}
const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const result = { bind: middle(bind), first: middle(first), again: middle(again), before, live };
process.stdout.write(`${JSON.stringify(result)}\n`);
await user.close();
await binder.close();
await store.close();

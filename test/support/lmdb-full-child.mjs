/**
 * Fills a token store and a map on a small file system, and goes on when they are full: `node PROGRAM FOLDER`.
 * Prints one JSON line. A program of its own because what LMDB says itself goes to stderr.
 */
import path from 'node:path';
import { LmdbMap } from '../../src/io/lmdb-map.ts';
import { openLmdbStore } from '../../src/offload/store/lmdb-store.ts';

const [, , folder] = process.argv;
const MOST = 50_000;
const REFUSALS = 40;

async function codeOf(work) {
  try {
    await work();
    return 'done';
  } catch (error) {
    return error?.code ?? String(error);
  }
}

/** Until it was refused often; the numbers that were taken. */
async function fill(put) {
  const taken = [];
  const codes = new Set();
  for (let index = 0, refused = 0; index < MOST && refused < REFUSALS; index += 1) {
    const code = await codeOf(() => put(index));
    if (code === 'done') taken.push(index);
    else {
      refused += 1;
      codes.add(code);
    }
  }
  return { taken, codes: [...codes] };
}

const store = await openLmdbStore(path.join(folder, 'store'));
const map = await LmdbMap.open(path.join(folder, 'x.map'), { maps: ['m'], limit: 1 << 26 });
const record = {
  random: 'ab'.repeat(32),
  mode: 'point-in-time',
  path: '/disk',
  offset: 0,
  length: 1,
  ttl: 1,
  created: 1,
  lastUsed: 1,
  revoked: false,
};
const tokens = await fill((index) => store.put({ ...record, id: `t${index}` }));
const numbers = await fill((index) => map.change((change) => change.put('m', index, 7)));
let kept = 0;
for (const index of tokens.taken) if (await store.get(`t${index}`)) kept += 1;
const seen = numbers.taken.filter((index) => map.read((view) => view.get('m', index)) === 7).length;
const deleted = await codeOf(async () => {
  for (const index of tokens.taken.slice(0, 200)) await store.delete(`t${index}`);
});
const again = await codeOf(() => store.put({ ...record, id: 'again' }));
await map.close();
await store.close();
process.stdout.write(JSON.stringify({ tokens, numbers, kept, seen, deleted, again }));

// Writes to an image and changes its snapshots until it is killed: `node BUNDLE IMAGE SEED`, where BUNDLE is this file
// with all that it imports. Tells each step on stdout when it begins (small letters) and when it has ended (capitals):
// `w ID SECTOR COUNT`, `W ID`, `c NAME`, `C NAME`, `r NAME`, `R NAME`, `x NAME`, `X NAME`.
import { writeSync } from 'node:fs';
import { systemHost } from '../../src/operations/host.js';
import { openSet } from '../../src/operations/snapshot/open-set.js';

const SECTOR = 512;
const [, , image, seed] = process.argv;
let state = Number(seed);
const next = (below) => {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return (state >>> 8) % below;
};
const tell = (text) => writeSync(1, `${text}\n`);

const { set } = await openSet(systemHost(), { path: image });
await set.finishRestore();
const sectors = set.volume.size / SECTOR;
let id = Number(seed) * 100_000;
const names = set.store.record.snapshots.map(({ name }) => name);

async function write(taken) {
  const count = 1 + next(next(5) === 0 ? 200 : 8);
  const first = next(sectors - count);
  for (let sector = first; sector < first + count; sector += 1) if (taken.has(sector)) return;
  for (let sector = first; sector < first + count; sector += 1) taken.add(sector);
  id += 1;
  const mine = id;
  const bytes = new Uint8Array(count * SECTOR);
  new Uint32Array(bytes.buffer).fill(mine);
  tell(`w ${mine} ${first} ${count}`);
  await set.volume.write(bytes, first * SECTOR);
  tell(`W ${mine}`);
}

async function change() {
  const luck = next(10);
  const name = names[next(names.length)];
  if (names.length < 3 || (luck < 4 && names.length < 7)) {
    const made = `s${id}-${next(1000)}`;
    tell(`c ${made}`);
    await set.create({ name: made, kind: 'sparse' });
    tell(`C ${made}`);
    names.push(made);
  } else {
    tell(`x ${name}`);
    await set.delete(name);
    tell(`X ${name}`);
    names.splice(names.indexOf(name), 1);
  }
}

async function restore() {
  const name = names[next(names.length)];
  if (name === undefined) return;
  tell(`r ${name}`);
  await set.restore(name);
  tell(`R ${name}`);
}

tell('ready');
for (;;) {
  const taken = new Set();
  const writes = Array.from({ length: 6 }, () => write(taken));
  // Snapshots are made and deleted while writes are under way; a restore comes between them.
  if (next(2) === 0) await change();
  await Promise.all(writes);
  if (next(3) === 0) await set.volume.flush();
  if (next(5) === 0) await restore();
}

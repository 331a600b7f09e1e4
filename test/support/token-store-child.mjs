/**
 * A process that works on a shared token store until it is told to stop or is killed:
 * `node BUNDLE LOCATION LOG NAME ROUNDS`.
 *
 * Each round adds one to `lastUsed` of the record `shared` and puts and deletes a record of its own. What the store
 * confirmed goes to the log at once: `key HEX`, then a line `REVISION` for every addition.
 */
import { appendFileSync } from 'node:fs';
import { openTokenStore } from '../../src/offload/store/open.js';

const [, , location, log, name, rounds] = process.argv;
const store = await openTokenStore(location);
appendFileSync(log, `key ${Buffer.from(await store.key()).toString('hex')}\n`);
for (let round = 0; round < Number(rounds); ) {
  const entry = await store.get('shared');
  const { record, revision } = entry;
  const own = { ...record, id: `${name}x${round}` };
  const ownRevision = await store.put(own);
  const next = await store.update({ ...record, lastUsed: record.lastUsed + 1 }, revision);
  if (next !== undefined) {
    appendFileSync(log, `${next}\n`);
    round += 1;
  }
  if (ownRevision !== undefined) await store.delete(own.id, ownRevision);
}
await store.close();

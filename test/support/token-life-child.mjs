/**
 * A process that binds or uses tokens of a shared store that has limits:
 * `node BUNDLE bind|use STORE IMAGE TOKENS LOG ROUNDS`.
 *
 * `bind` appends the bytes of each token to the file TOKENS, and logs `over` when the store holds more than its limit.
 * `use` takes the last tokens of that file, and logs `evicted in use` for one that ended between the beginning and
 * the end of its use. Both log at last how many rounds worked out.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { Token } from '../../src/offload/token.js';
import { systemHost } from '../../src/operations/host.js';
import { openTokens } from '../../src/operations/token/store.js';

const [, , role, location, image, tokensFile, log, rounds] = process.argv;
const host = systemHost();
const { manager, store, close } = await openTokens(host, location);
const { tokens: limit } = await store.limits();
let worked = 0;

async function bind(file) {
  const { token } = await manager.bind(
    file,
    { offset: 0, length: 4096 },
    { mode: 'change-vulnerable', ttl: 60_000 },
  );
  appendFileSync(tokensFile, token.toBytes());
  if ((await store.usage()).tokens > limit) appendFileSync(log, 'over\n');
}

async function use() {
  const bytes = existsSync(tokensFile) ? readFileSync(tokensFile) : Buffer.alloc(0);
  const count = Math.floor(bytes.length / 512);
  const at = (count - 1 - Math.floor(Math.random() * Math.min(count, limit + 2))) * 512;
  if (count === 0) throw new Error('no tokens yet');
  const token = new Token(Uint8Array.from(bytes.subarray(at, at + 512)));
  const begun = await manager.begin(token);
  await new Promise((resolve) => setTimeout(resolve, 3));
  if (await manager.endedInUse()) appendFileSync(log, 'evicted in use\n');
  begun.end();
  await manager.giveBackUses();
}

// Processes do not start at the same time: rounds without any token would prove nothing.
for (let wait = 0; role === 'use' && !existsSync(tokensFile) && wait < 30_000; wait += 5)
  await new Promise((resolve) => setTimeout(resolve, 5));
const file = await host.fileSystem.open(image);
for (let round = 0; round < Number(rounds); round += 1) {
  try {
    await (role === 'bind' ? bind(file) : use());
    worked += 1;
  } catch {
    // No room, or evicted before its use: that is what limits do.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
appendFileSync(log, `worked ${worked}\n`);
await file.close();
await close();

/**
 * A token file and the ranges beside it are two files: whoever reads while both are replaced, or after a crash in
 * between, must not take the ones with the others.
 */
import { readFileSync, truncateSync, watch, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, expect, it, vi } from 'vitest';
import { MemoryTokenStore } from '../../../../src/offload/store/memory-store.js';
import { convert } from '../../../../src/operations/convert.js';
import { type Host, systemHost } from '../../../../src/operations/host.js';
import { openTokenBytes } from '../../../../src/operations/token/cat.js';
import { readToken } from '../../../../src/operations/token/read.js';
import { overriding } from '../../../support/overriding.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { makeTempFolder } from '../../../support/tmp.js';

const MiB = 1024 ** 2;
const host = systemHost();
let folder: string;
let store: MemoryTokenStore;
const at = (name: string): string => path.join(folder, name);

/** Data, a hole, data: three tokens, the second of which could be of any length. */
async function makeDisk(name: string, hole: number, seed: number): Promise<void> {
  writeFileSync(at(name), seededBytes(MiB, seed));
  truncateSync(at(name), MiB + hole);
  writeFileSync(at(name), seededBytes(MiB, seed + 1), { flag: 'a' });
  await convert(host, { source: at(name), target: at(`${name}.vhdx`), blockSize: MiB });
}

beforeEach(async () => {
  folder = makeTempFolder('token-replaced');
  store = new MemoryTokenStore();
  await makeDisk('a', MiB, 1);
  await makeDisk('b', 2 * MiB, 3);
  writeFileSync(at('c'), seededBytes(MiB, 5));
  await replaceBy('a.vhdx');
});

const replaceBy = (name: string): Promise<unknown> =>
  readToken(host, { path: at(name), output: at('t.tok'), store, force: true });

async function cat(by: Host): Promise<Buffer> {
  const bytes = await openTokenBytes(by, { tokens: at('t.tok'), store });
  const parts: Buffer[] = [];
  for await (const chunk of bytes.chunks()) parts.push(Buffer.from(chunk));
  await bytes.close();
  return Buffer.concat(parts);
}

/** Files are as they are, but before one is opened something else happens, so many times. */
function interrupted(name: string, times: number, meanwhile: () => Promise<unknown>): Host {
  const { fileSystem } = host;
  let left = times;
  const open: typeof fileSystem.open = async (file, options) => {
    if (file === at(name) && left > 0) {
      left -= 1;
      await meanwhile();
    }
    return fileSystem.open(file, options);
  };
  return { ...host, fileSystem: overriding(fileSystem, { open }) };
}

it.each(['b.vhdx', 'c'])('replaced by %s between the tokens and the ranges', async (name) => {
  const got = await cat(interrupted('t.tok.json', 1, () => replaceBy(name)));
  expect(got.equals(readFileSync(at(path.parse(name).name)))).toBe(true);
});

it('replaced again and again is an error', async () => {
  const never = cat(interrupted('t.tok.json', 100, () => replaceBy('b.vhdx')));
  await expect(never).rejects.toMatchObject({ code: 'IN_USE', context: { path: at('t.tok') } });
});

it.each(['b.vhdx', 'c'])(
  'replacing by %s: the former tokens are gone before the ranges change',
  async (name) => {
    const events: string[] = [];
    const watcher = watch(folder, (_, file) => events.push(String(file)));
    await replaceBy(name);
    await vi.waitFor(() => expect(events.filter((file) => file === 't.tok').length).toBeGreaterThan(1));
    watcher.close();
    const seen = events.filter((file) => file === 't.tok' || file === 't.tok.json');
    expect([seen[0], seen.at(-1)]).toEqual(['t.tok', 't.tok']);
    expect(seen).toContain('t.tok.json');
    expect((await cat(host)).equals(readFileSync(at(path.parse(name).name)))).toBe(true);
  },
);

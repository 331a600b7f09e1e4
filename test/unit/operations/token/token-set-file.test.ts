/**
 * Token files taken apart by a program, and what the commands make of the sets that come of it.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { MemoryTokenStore } from '../../../../src/offload/store/memory-store.js';
import { Token } from '../../../../src/offload/token.js';
import { ZERO_TOKEN } from '../../../../src/offload/token-codec.js';
import { TokenSet } from '../../../../src/offload/token-set.js';
import { systemHost } from '../../../../src/operations/host.js';
import { readToken, type TokenReadOptions } from '../../../../src/operations/token/read.js';
import { revokeTokens } from '../../../../src/operations/token/revoke.js';
import { loadTokenSet, saveTokenSet } from '../../../../src/operations/token/set-file.js';
import { showTokens } from '../../../../src/operations/token/show.js';
import { writeToken } from '../../../../src/operations/token/write.js';
import { makeTempFolder } from '../../../support/tmp.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const host = systemHost();
const data = randomBytes(2 * MiB);

let store: MemoryTokenStore;
let folder: string;
const at = (name: string): string => path.join(folder, name);

beforeEach(() => {
  folder = makeTempFolder('token-sets');
  store = new MemoryTokenStore();
  const disk = Buffer.concat([data, Buffer.alloc(MiB), data.subarray(0, 512 * KiB)]);
  writeFileSync(at('disk.img'), disk);
  writeFileSync(at('lun.img'), Buffer.alloc(8 * MiB, 7));
});

const read = (options: Partial<TokenReadOptions> = {}) =>
  readToken(host, { path: at('disk.img'), output: at('t.tok'), store, ...options });
const write = (tokens: string, options: object = {}) =>
  writeToken(host, { tokens: at(tokens), target: at('lun.img'), store, ...options });

describe('a token file as a set', () => {
  it('is cut, ordered anew and written by whoever has the store, with its checksums', async () => {
    await read({ length: 2 * MiB, checksum: true });
    const set = await loadTokenSet(host, at('t.tok'));
    expect(set.length).toBe(2 * MiB);
    expect(set.auxiliary).toHaveLength(1);
    const pieces = [set.slice(MiB, 512 * KiB), set.slice(64 * KiB, 256 * KiB), set.slice(MiB, 4 * KiB)];
    const mixed = TokenSet.concat(pieces);
    await saveTokenSet(host, at('mixed.tok'), mixed);
    expect(statSync(at('mixed.tok')).mode & 0o777).toBe(0o600);
    expect((await loadTokenSet(host, at('mixed.tok'))).toBytes()).toEqual(mixed.toBytes());

    const { length, verified } = await write('mixed.tok', { offset: MiB });
    expect(length).toBe(772 * KiB);
    // Whole chunks of 64 KiB; the last piece has none.
    expect(verified).toEqual({ checked: 768 * KiB, unchecked: 4 * KiB });
    const expected = Buffer.alloc(8 * MiB, 7);
    data.copy(expected, MiB, MiB, MiB + 512 * KiB);
    data.copy(expected, MiB + 512 * KiB, 64 * KiB, 320 * KiB);
    data.copy(expected, MiB + 768 * KiB, MiB, MiB + 4 * KiB);
    expect(readFileSync(at('lun.img')).equals(expected)).toBe(true);
  });

  it('is shown and revoked like any token file', async () => {
    await read();
    const set = await loadTokenSet(host, at('t.tok'));
    await saveTokenSet(host, at('part.tok'), set.slice(MiB, MiB));
    const shown = await showTokens(host, { tokens: at('part.tok'), store });
    expect(shown).toMatchObject({ length: MiB, tokens: [{ offset: 0, length: MiB, state: 'valid' }] });
    await revokeTokens(host, { which: at('part.tok'), store });
    await expect(write('part.tok')).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
    await expect(write('t.tok')).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
  });

  it('takes our token of several, and refuses parts that have none', async () => {
    await read({ length: MiB });
    const set = await loadTokenSet(host, at('t.tok'));
    const [ours] = set.parts.flatMap(({ choices }) => choices);
    if (!ours) throw new Error('no token');
    const theirs = { provider: 'array-7', token: new Token(new Uint8Array(512).fill(0x5a)), tokenOffset: 0 };
    await saveTokenSet(host, at('both.tok'), TokenSet.of([{ length: MiB, choices: [theirs, ours] }]));
    await write('both.tok');
    expect(readFileSync(at('lun.img')).subarray(0, MiB).equals(data.subarray(0, MiB))).toBe(true);
    const malformed = { code: 'TOKEN_INVALID', context: { reason: 'malformed' } };
    const bad = [
      TokenSet.of([{ length: MiB, choices: [theirs] }]),
      // Longer than its token.
      TokenSet.of([{ length: MiB + 512, choices: [ours] }]),
      TokenSet.of([]),
    ];
    for (const wrong of bad) {
      await saveTokenSet(host, at('bad.tok'), wrong, { force: true });
      await expect(write('bad.tok')).rejects.toMatchObject(malformed);
    }
    writeFileSync(at('bad.tok'), readFileSync(at('both.tok')).subarray(0, 700));
    await expect(write('bad.tok')).rejects.toMatchObject(malformed);
  });

  it('may as well be cut by hand, in the file beside it', async () => {
    await read();
    const cut = (ranges: object[]) =>
      writeFileSync(at('t.tok.json'), JSON.stringify({ schemaVersion: 1, ranges }));
    cut([
      { token: 0, offset: 0, length: 64 * KiB, tokenOffset: MiB },
      { token: 0, offset: 64 * KiB, length: 512 },
    ]);
    await write('t.tok');
    const lun = readFileSync(at('lun.img'));
    expect(lun.subarray(0, 64 * KiB).equals(data.subarray(MiB, MiB + 64 * KiB))).toBe(true);
    expect(lun.subarray(64 * KiB, 64 * KiB + 512).equals(data.subarray(0, 512))).toBe(true);
    expect(lun[64 * KiB + 512]).toBe(7);
    for (const tokenOffset of [-1, 0.5, '0', null, MiB * 4, Number.MAX_SAFE_INTEGER]) {
      cut([{ token: 0, offset: 0, length: 64 * KiB, tokenOffset }]);
      await expect(write('t.tok'), `${tokenOffset}`).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
    }
  });

  it('may be zeros without end, and is not written over another by mistake', async () => {
    writeFileSync(at('zero.tok'), ZERO_TOKEN.toBytes());
    const zeros = await loadTokenSet(host, at('zero.tok'));
    expect(zeros.length).toBe(Number.MAX_SAFE_INTEGER);
    const save = saveTokenSet(host, at('zero.tok'), zeros.slice(0, MiB));
    await expect(save).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    await saveTokenSet(host, at('zero.tok'), zeros.slice(0, MiB), { force: true });
    await write('zero.tok', { offset: MiB });
    const lun = readFileSync(at('lun.img'));
    expect(lun.subarray(MiB, 2 * MiB).equals(Buffer.alloc(MiB))).toBe(true);
    expect(lun[2 * MiB]).toBe(7);
  });
});

/** Tokens for ranges of disks, bound by one manager and used by another, over one store. */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { MemoryTokenStore } from '../../../../src/offload/store/memory-store.js';
import { create } from '../../../../src/operations/create.js';
import { systemHost } from '../../../../src/operations/host.js';
import { openTokenBytes } from '../../../../src/operations/token/cat.js';
import { readToken, type TokenReadOptions } from '../../../../src/operations/token/read.js';
import { revokeTokens } from '../../../../src/operations/token/revoke.js';
import { listTokens, showTokens } from '../../../../src/operations/token/show.js';
import { type TokenWriteOptions, writeToken } from '../../../../src/operations/token/write.js';
import { makeTempFolder } from '../../../support/tmp.js';

const MiB = 1024 * 1024;
const KiB = 1024;
let now = 0;
const host = { ...systemHost(), clock: { now: () => now } };

let folder: string;
let store: MemoryTokenStore;
const at = (name: string): string => path.join(folder, name);

beforeEach(() => {
  folder = makeTempFolder('tokens');
  store = new MemoryTokenStore();
  now = Date.now();
});

const read = (source: string, output: string, more: Partial<TokenReadOptions> = {}) =>
  readToken(host, { path: at(source), output: at(output), store, ...more });
const write = (tokens: string, target: string, more: Partial<TokenWriteOptions> = {}) =>
  writeToken(host, { tokens: at(tokens), target: at(target), store, ...more });

async function cat(tokens: string, more: object = {}): Promise<Buffer> {
  const bytes = await openTokenBytes(host, { tokens: at(tokens), store, ...more });
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of bytes.chunks()) chunks.push(Buffer.from(chunk));
  } finally {
    await bytes.close();
  }
  return Buffer.concat(chunks);
}

describe('a range of a raw image', () => {
  const data = randomBytes(4 * MiB);

  beforeEach(() => {
    writeFileSync(at('disk.img'), data);
    writeFileSync(at('lun.img'), Buffer.alloc(8 * MiB, 7));
  });

  it('appears elsewhere, and nothing around it changes', async () => {
    const made = await read('disk.img', 't.tok', { offset: MiB, length: 2 * MiB + 512 });
    expect(made).toMatchObject({
      ranges: null,
      tokens: [{ state: 'data', offset: MiB, length: 2 * MiB + 512 }],
    });
    expect(statSync(at('t.tok')).size).toBe(512);
    expect(statSync(at('t.tok')).mode & 0o777).toBe(0o600);
    const result = await write('t.tok', 'lun.img', { offset: 3 * MiB });
    const { shared, kernelCopied, buffered, zeroed } = result.bytes;
    expect(shared + kernelCopied + buffered + zeroed).toBe(2 * MiB + 512);
    const expected = Buffer.alloc(8 * MiB, 7);
    data.copy(expected, 3 * MiB, MiB, 3 * MiB + 512);
    expect(readFileSync(at('lun.img')).equals(expected)).toBe(true);
    expect((await cat('t.tok')).equals(data.subarray(MiB, 3 * MiB + 512))).toBe(true);
  });

  it('in part, and not beyond its end', async () => {
    await read('disk.img', 't.tok', { length: MiB });
    await write('t.tok', 'lun.img', { tokenOffset: 512 * KiB, length: 64 * KiB });
    expect(
      readFileSync(at('lun.img'))
        .subarray(0, 64 * KiB)
        .equals(data.subarray(512 * KiB, 576 * KiB)),
    ).toBe(true);
    expect(
      readFileSync(at('lun.img'))
        .subarray(64 * KiB)
        .every((byte) => byte === 7),
    ).toBe(true);
    await expect(write('t.tok', 'lun.img', { tokenOffset: 512, length: MiB })).rejects.toMatchObject({
      code: 'OUT_OF_RANGE',
    });
    await expect(write('t.tok', 'lun.img', { offset: 8 * MiB - 512 })).rejects.toMatchObject({
      code: 'OUT_OF_RANGE',
    });
    await expect(write('t.tok', 'lun.img', { offset: 1 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  it('a dry run changes nothing and foresees the bytes', async () => {
    await read('disk.img', 't.tok', { length: MiB });
    const before = readFileSync(at('lun.img'));
    const { bytes, dryRun } = await write('t.tok', 'lun.img', { dryRun: true });
    expect(dryRun).toBe(true);
    expect(bytes.shared + bytes.kernelCopied + bytes.buffered).toBe(MiB);
    expect(readFileSync(at('lun.img')).equals(before)).toBe(true);
  });

  it('says nothing of where the data is', async () => {
    truncateSync(at('disk.img'), 16 * MiB);
    await read('disk.img', 't.tok');
    const { tokens } = await showTokens(host, { tokens: at('t.tok'), store });
    expect(tokens.map(({ mode, state }) => `${mode} ${state}`)).toEqual([
      'change-vulnerable valid',
      'zero valid',
    ]);
    for (const name of ['t.tok', 't.tok.json']) {
      const text = readFileSync(at(name)).toString('latin1');
      for (const part of [folder, path.basename(folder), 'disk.img', 'lun']) expect(text).not.toContain(part);
    }
  });

  it('is not bound where there is a token file already, unless that is meant', async () => {
    writeFileSync(at('t.tok'), 'mine');
    await expect(read('disk.img', 't.tok')).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    expect(readFileSync(at('t.tok'), 'utf8')).toBe('mine');
    expect(await store.count()).toBe(0);
    await read('disk.img', 't.tok', { force: true });
    expect((await cat('t.tok')).equals(data)).toBe(true);
  });

  it.each([
    [{ offset: 1 }, 'INVALID_ARGUMENT'],
    [{ length: 0 }, 'INVALID_ARGUMENT'],
    [{ length: 8 * MiB }, 'OUT_OF_RANGE'],
    [{ ttl: 1e12 }, 'INVALID_ARGUMENT'],
    [{ expires: 0 }, 'INVALID_ARGUMENT'],
  ] as const)('%j is %s', async (options, code) => {
    await expect(read('disk.img', 't.tok', options)).rejects.toMatchObject({ code });
    expect(existsSync(at('t.tok'))).toBe(false);
  });

  it('is not written onto itself', async () => {
    await read('disk.img', 't.tok', { length: MiB });
    await expect(write('t.tok', 'disk.img', { offset: MiB })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    expect(readFileSync(at('disk.img')).equals(data)).toBe(true);
  });

  describe('whose life ended', () => {
    const reason = (word: string) => ({ code: 'TOKEN_INVALID', context: { reason: word } });
    const refused = async (error: object): Promise<void> => {
      const before = readFileSync(at('lun.img'));
      await expect(write('t.tok', 'lun.img')).rejects.toMatchObject(error);
      await expect(cat('t.tok')).rejects.toMatchObject(error);
      expect(readFileSync(at('lun.img')).equals(before)).toBe(true);
    };

    it('because the source was written to', async () => {
      await read('disk.img', 't.tok');
      writeFileSync(at('disk.img'), data);
      await refused({ code: 'SOURCE_CHANGED' });
      expect(await store.refusals()).toEqual({ changed: 2 });
    });

    it('because the source was replaced, or is gone', async () => {
      await read('disk.img', 't.tok');
      rmSync(at('disk.img'));
      await refused({ code: 'SOURCE_CHANGED' });
      writeFileSync(at('disk.img'), data);
      utimesSync(at('disk.img'), 1, 1);
      await refused({ code: 'SOURCE_CHANGED' });
    });

    it('because it was revoked, by file or by id', async () => {
      const { tokens } = await read('disk.img', 't.tok');
      const id = tokens[0]?.id ?? '';
      expect(await revokeTokens(host, { which: at('t.tok'), store })).toEqual({
        revoked: [id],
        leaving: [],
        ended: [],
      });
      await refused(reason('revoked'));
      expect(await revokeTokens(host, { which: id, store })).toEqual({
        revoked: [],
        leaving: [],
        ended: [id],
      });
      await expect(revokeTokens(host, { which: 'f'.repeat(16), store })).rejects.toMatchObject(
        reason('unknown'),
      );
    });

    it('because it was not used, or its time is over; and the store says so for a day', async () => {
      await read('disk.img', 't.tok', { ttl: 10_000, expires: 25_000 });
      for (const wait of [9_000, 9_000]) {
        now += wait;
        await cat('t.tok');
      }
      now += 8_000;
      await refused({ code: 'TOKEN_EXPIRED' });
      await listTokens(host, { store });
      expect((await listTokens(host, { store })).tokens).toMatchObject([{ state: 'expired' }]);
      await refused({ code: 'TOKEN_EXPIRED' });
      now += 25 * 3_600_000;
      await listTokens(host, { store });
      await refused(reason('unknown'));
    });

    it('because another store made it', async () => {
      await read('disk.img', 't.tok');
      store = new MemoryTokenStore();
      await refused(reason('foreign'));
      expect(await store.refusals()).toEqual({ foreign: 2 });
    });

    it('because a bit of it is not what it was', async () => {
      await read('disk.img', 't.tok');
      const token = readFileSync(at('t.tok'));
      const codes = new Map<string, number>();
      // All bits: the unit test of the codec. Here those that a reader looks at, and some of the rest.
      for (let bit = 0; bit < 4096; bit += bit < 512 ? 1 : 61) {
        const flipped = Buffer.from(token);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        writeFileSync(at('u.tok'), flipped);
        const error = await openTokenBytes(host, { tokens: at('u.tok'), store }).then(
          () => 'taken',
          (failure) => `${failure.code} ${failure.context.reason}`,
        );
        codes.set(error, (codes.get(error) ?? 0) + 1);
      }
      expect([...codes.keys()].sort()).toEqual([
        'TOKEN_INVALID foreign',
        'TOKEN_INVALID forged',
        'TOKEN_INVALID malformed',
        'TOKEN_INVALID unsupported',
      ]);
    });
  });

  it('token files that are none are refused', async () => {
    await read('disk.img', 't.tok');
    const token = readFileSync(at('t.tok'));
    for (const bytes of [
      Buffer.alloc(0),
      token.subarray(1),
      Buffer.concat([token, Buffer.of(1)]),
      randomBytes(512),
    ]) {
      writeFileSync(at('u.tok'), bytes);
      await expect(cat('u.tok')).rejects.toMatchObject({
        code: 'TOKEN_INVALID',
        context: { reason: 'malformed' },
      });
    }
  });
});

describe('a range in several pieces', () => {
  /** A VHDX whose blocks are data, nothing, data; the ends of the file are zeros. */
  async function dynamicImage(name: string): Promise<Buffer> {
    await create(host, { path: at(name), size: 16 * MiB, blockSize: MiB });
    const content = Buffer.alloc(16 * MiB);
    const sparse = openSync(at('content.img'), 'w');
    ftruncateSync(sparse, content.length);
    // Out of order, so that no two blocks follow each other in the image.
    for (const place of [7, 3, 2]) {
      randomBytes(MiB - 512).copy(content, place * MiB);
      writeSync(sparse, content, place * MiB, MiB, place * MiB);
    }
    closeSync(sparse);
    for (const place of [7, 3, 2]) {
      const there = { offset: place * MiB, length: MiB };
      await read('content.img', 'content.tok', { ...there, force: true });
      await write('content.tok', name, { offset: place * MiB });
    }
    return content;
  }

  it('is several tokens and a list of ranges', async () => {
    const content = await dynamicImage('disk.vhdx');
    const { tokens, ranges } = await read('disk.vhdx', 't.tok', { offset: MiB, length: 10 * MiB });
    expect(tokens.length).toBeGreaterThan(2);
    expect(statSync(at('t.tok')).size).toBe(tokens.length * 512);
    expect(statSync(ranges ?? '').mode & 0o777).toBe(0o600);
    writeFileSync(at('lun.img'), Buffer.alloc(10 * MiB, 7));
    const { bytes } = await write('t.tok', 'lun.img');
    expect(bytes.zeroed).toBeGreaterThanOrEqual(6 * MiB);
    expect(readFileSync(at('lun.img')).equals(content.subarray(MiB, 11 * MiB))).toBe(true);
    expect(
      (await cat('t.tok', { tokenOffset: MiB, length: 3 * MiB })).equals(content.subarray(2 * MiB, 5 * MiB)),
    ).toBe(true);
  });

  it('may be taken apart and put together in another order', async () => {
    const content = await dynamicImage('disk.vhdx');
    await read('disk.vhdx', 't.tok');
    const list = JSON.parse(readFileSync(at('t.tok.json'), 'utf8'));
    const data = list.ranges.filter(({ token }: { token: number }) => {
      return readFileSync(at('t.tok')).readUInt32BE(token * 512) !== 0xffff0001;
    });
    const [first, last] = [data[0], data.at(-1)];
    list.ranges = [
      { token: last.token, offset: 0, length: 512 },
      { token: first.token, offset: 512, length: 1024 },
    ];
    writeFileSync(at('t.tok.json'), JSON.stringify(list));
    const expected = [
      content.subarray(last.offset, last.offset + 512),
      content.subarray(first.offset, first.offset + 1024),
    ];
    expect((await cat('t.tok')).equals(Buffer.concat(expected))).toBe(true);
  });

  it.each([
    ['a gap', '[{"token":0,"offset":512,"length":512}]'],
    ['a token that is not there', '[{"token":99999,"offset":0,"length":512}]'],
    ['more than a token stands for', '[{"token":1,"offset":0,"length":99999999999}]'],
    ['a length that is none', '[{"token":1,"offset":0,"length":-1}]'],
    ['no ranges', '[]'],
    ['something else', '{}'],
  ])('a list with %s is refused', async (_what, ranges) => {
    await dynamicImage('disk.vhdx');
    await read('disk.vhdx', 't.tok');
    writeFileSync(at('t.tok.json'), `{"schemaVersion":1,"ranges":${ranges}}`);
    await expect(cat('t.tok')).rejects.toMatchObject({
      code: 'TOKEN_INVALID',
      context: { reason: 'malformed' },
    });
  });

  it('a range of zeros is the zero token, which needs a length and nothing else', async () => {
    await create(host, { path: at('empty.vhd'), size: 16 * MiB });
    const { tokens } = await read('empty.vhd', 'z.tok', { length: 2 * MiB });
    expect(tokens).toEqual([{ id: null, state: 'zero', offset: 0, length: 2 * MiB }]);
    expect(await store.count()).toBe(0);
    writeFileSync(at('lun.img'), Buffer.alloc(4 * MiB, 7));
    await write('z.tok', 'lun.img', { offset: MiB });
    const expected = Buffer.alloc(4 * MiB, 7).fill(0, MiB, 3 * MiB);
    expect(readFileSync(at('lun.img')).equals(expected)).toBe(true);
    rmSync(at('z.tok.json'));
    await expect(cat('z.tok')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect((await cat('z.tok', { length: 700 })).equals(Buffer.alloc(700))).toBe(true);
  });
});

/**
 * The suite every offload provider passes: what the OffloadProvider contract promises, whatever the files.
 *
 * A provider may answer "unsupported" for ranges off its alignment; what it does do must be right.
 */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../src/base/random.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import type { OffloadProvider } from '../../src/offload/offload-provider.js';
import { Token } from '../../src/offload/token.js';
import { TokenManager } from '../../src/offload/token-manager.js';
import { describeRequestorLoops } from './requestor-loops.js';

export interface OffloadSubject {
  name: string;
  provider(manager: TokenManager): OffloadProvider;
  /** A new writable file with this content. */
  file(content: Uint8Array): Promise<RandomAccessFile>;
  /** The same file, opened for reading only. */
  readOnly(file: RandomAccessFile): Promise<RandomAccessFile>;
  /** False for files whose changes nobody can notice. */
  fingerprints: boolean;
}

const SIZE = 300_000;
const BLOCK = 4096;

interface Setting {
  clock: { time: number };
  manager: TokenManager;
  provider: OffloadProvider;
  source: RandomAccessFile;
  target: RandomAccessFile;
  data: Uint8Array;
  before: Uint8Array;
}

async function setting(subject: OffloadSubject): Promise<Setting> {
  const clock = { time: 0 };
  const manager = new TokenManager({ clock: { now: () => clock.time }, random: systemRandom });
  const data = Uint8Array.from(randomBytes(SIZE));
  const before = Uint8Array.from(randomBytes(SIZE + 5 * BLOCK));
  return {
    clock,
    manager,
    provider: subject.provider(manager),
    source: await subject.file(data),
    target: await subject.file(before),
    data,
    before,
  };
}

async function read(file: RandomAccessFile): Promise<Uint8Array> {
  const out = new Uint8Array(file.size());
  await file.read(out, 0);
  return out;
}

async function bind(
  { provider, source }: Setting,
  mode: 'point-in-time' | 'change-vulnerable',
  offset = 0,
  length = SIZE,
) {
  const [bound] = await provider.offloadRead(source, { offset, length }, { mode, ttl: 0 });
  expect(bound).toMatchObject({ offset, length });
  return (bound as { token: Token }).token;
}

/** Writes the whole range, going on after short answers; bytes done before an "unsupported". */
async function write(at: Setting, token: Token, tokenOffset: number, targetOffset: number, length: number) {
  let done = 0;
  while (done < length) {
    const result = await at.provider.offloadWrite({
      token,
      tokenOffset: tokenOffset + done,
      target: at.target,
      targetOffset: targetOffset + done,
      length: length - done,
    });
    if (result.status === 'unsupported') {
      expect(result.reason).not.toBe('');
      break;
    }
    expect(result.length).toBeGreaterThanOrEqual(1);
    expect(result.length).toBeLessThanOrEqual(length - done);
    done += result.length;
  }
  return done;
}

/** The target is what it was, except that `[to, to + done)` holds the token's bytes, zeros past its end. */
async function expectTarget(at: Setting, from: number, to: number, done: number, tokenEnd = SIZE) {
  const expected = new Uint8Array(Math.max(at.before.length, to + done));
  expected.set(at.before);
  const bytes = new Uint8Array(done);
  bytes.set(at.data.subarray(from, Math.min(tokenEnd, from + done)));
  expected.set(bytes, to);
  expect(Buffer.compare(await read(at.target), expected)).toBe(0);
}

export function describeOffloadProvider(subject: OffloadSubject): void {
  describe(`offload provider: ${subject.name}`, () => {
    it('claims to be able, with an alignment and a length', async () => {
      const at = await setting(subject);
      const found = at.provider.capabilities(at.source, at.target);
      expect(found).toMatchObject({ supported: true });
      expect(found.alignment).toBeGreaterThan(0);
      expect(found.maxLength).toBeGreaterThanOrEqual(found.alignment);
    });

    it('does aligned ranges whole', async () => {
      const at = await setting(subject);
      const token = await bind(at, 'point-in-time');
      const length = 16 * BLOCK;
      expect(await write(at, token, 8 * BLOCK, 4 * BLOCK, length)).toBe(length);
      await expectTarget(at, 8 * BLOCK, 4 * BLOCK, length);
    });

    it('does a range at the end of the file, extending the target', async () => {
      const at = await setting(subject);
      const token = await bind(at, 'point-in-time');
      const from = 70 * BLOCK;
      const to = Math.ceil(at.before.length / BLOCK) * BLOCK;
      await at.target.truncate(to);
      at.before = await read(at.target);
      const done = await write(at, token, from, to, SIZE - from);
      expect(done).toBe(SIZE - from);
      await expectTarget(at, from, to, done);
    });

    it.each([
      [1, 1, 5000],
      [100, 613, 40_000],
      [4095, 4097, 1],
      [BLOCK, 100, 3 * BLOCK],
      [SIZE - 700, 3, 700],
      [SIZE - 5000, BLOCK - (5000 % BLOCK), 5000],
    ])('from %i to %i, %i bytes: right bytes as far as it goes', async (from, to, length) => {
      const at = await setting(subject);
      const done = await write(at, await bind(at, 'point-in-time'), from, to, length);
      await expectTarget(at, from, to, done);
    });

    it('gives zeros past the end of the token and never the bytes there', async () => {
      const at = await setting(subject);
      const token = await bind(at, 'point-in-time', 2 * BLOCK, 4 * BLOCK);
      const length = 6 * BLOCK;
      expect(await write(at, token, 0, BLOCK, length)).toBe(length);
      await expectTarget(at, 2 * BLOCK, BLOCK, length, 6 * BLOCK);
    });

    it('refuses a forged token', async () => {
      const at = await setting(subject);
      const bytes = (await bind(at, 'point-in-time')).toBytes();
      bytes[500] = (bytes[500] ?? 0) ^ 1;
      const forged = write(at, new Token(bytes), 0, 0, BLOCK);
      await expect(forged).rejects.toMatchObject({ code: 'TOKEN_INVALID', context: { reason: 'forged' } });
      await expectTarget(at, 0, 0, 0);
    });

    it("refuses another manager's token", async () => {
      const at = await setting(subject);
      const token = await bind(await setting(subject), 'point-in-time');
      await expect(write(at, token, 0, 0, BLOCK)).rejects.toMatchObject({ code: 'TOKEN_INVALID' });
    });

    it('refuses a target that is open for reading only', async () => {
      const at = await setting(subject);
      const token = await bind(at, 'point-in-time');
      const target = await subject.readOnly(at.target);
      const request = { token, tokenOffset: 0, target, targetOffset: 0, length: BLOCK };
      await expect(at.provider.offloadWrite(request)).rejects.toMatchObject({ code: 'READ_ONLY' });
    });

    it('stops when cancelled', async () => {
      const at = await setting(subject);
      const token = await bind(at, 'point-in-time');
      const signal = AbortSignal.abort();
      const request = { token, tokenOffset: 0, target: at.target, targetOffset: 0, length: BLOCK, signal };
      await expect(at.provider.offloadWrite(request)).rejects.toMatchObject({ code: 'CANCELLED' });
    });

    it('binding behind the end of the file is out of range', async () => {
      const at = await setting(subject);
      const bound = at.provider.offloadRead(
        at.source,
        { offset: SIZE + 1, length: 1 },
        { mode: 'point-in-time', ttl: 0 },
      );
      await expect(bound).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    });

    it.skipIf(!subject.fingerprints)(
      'refuses a source that was changed, and not one that was used',
      async () => {
        const at = await setting(subject);
        const token = await bind(at, 'change-vulnerable');
        expect(await write(at, token, 0, 0, 2 * BLOCK)).toBe(2 * BLOCK);
        expect(await write(at, token, 0, 0, 2 * BLOCK)).toBe(2 * BLOCK);
        // Beyond the tick of the file system's clock.
        await new Promise((resolve) => setTimeout(resolve, 20));
        await at.source.write(Uint8Array.of(1), 100_000);
        const late = write(at, token, 0, 0, BLOCK);
        await expect(late).rejects.toMatchObject({
          code: 'SOURCE_CHANGED',
          context: { path: at.source.path },
        });
      },
    );

    it.skipIf(!subject.fingerprints)('keeps what was written when the source changes later', async () => {
      const at = await setting(subject);
      const token = await bind(at, 'point-in-time');
      await write(at, token, 0, 0, 16 * BLOCK);
      await at.source.write(new Uint8Array(16 * BLOCK), 0);
      await expectTarget(at, 0, 0, 16 * BLOCK);
    });

    it('holds tokens: proves them, says where their data is, and keeps them from expiring', async () => {
      const at = await setting(subject);
      if (!at.provider.hold) return;
      const token = await bind(at, 'point-in-time', BLOCK, 2 * BLOCK);
      const held = await at.provider.hold(token);
      expect(held.source).toEqual({ file: at.source, offset: BLOCK });
      at.clock.time = 1e9;
      await held.verifyUnchanged();
      expect(await write(at, token, 0, 0, BLOCK)).toBe(BLOCK);
      held.release();
      at.clock.time = 2e9;
      await expect(at.provider.hold(token)).rejects.toMatchObject({ code: 'TOKEN_EXPIRED' });
    });

    describeRequestorLoops(subject);
  });
}

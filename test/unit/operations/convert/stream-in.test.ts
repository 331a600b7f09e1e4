/** Disks that come as a stream: straight into the target, or through the spool. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compare } from '../../../../src/operations/compare.js';
import { type ConvertOptions, convert } from '../../../../src/operations/convert.js';
import { storedBytes } from '../../../support/content.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { Collected, repeatableHost, streamOf } from '../../../support/stream-kit.js';
import { testFolder } from '../../../support/tmp.js';

const MiB = 1024 ** 2;
const KiB = 1024;

/** Data, a long run of zeros, small data, zeros at the end. */
function sampleBytes(size = 9 * MiB): Buffer {
  const bytes = Buffer.alloc(size);
  seededBytes(MiB + 70_000, 1).copy(bytes, 0);
  seededBytes(512, 2).copy(bytes, 5 * MiB + 512);
  return bytes;
}

interface Outcome {
  folder: string;
  target: string;
  notices: string[];
  result: Awaited<ReturnType<typeof convert>>;
}

async function take(
  input: AsyncIterable<Uint8Array>,
  options: Partial<ConvertOptions> & { name: string },
): Promise<Outcome> {
  const { name, ...rest } = options;
  const folder = testFolder();
  const target = path.join(folder, name);
  const notices: string[] = [];
  const notice = (text: string): void => void notices.push(text);
  const result = await convert(repeatableHost(), { source: '-', target, input, notice, ...rest });
  return { folder, target, notices, result };
}

describe('a raw stream into a raw target', () => {
  it('gives the same bytes, zeros as holes, without a spool', async () => {
    const bytes = sampleBytes();
    const { target, notices, folder, result } = await take(streamOf(bytes), { name: 'a.raw', from: 'raw' });
    expect(readFileSync(target).equals(bytes)).toBe(true);
    expect(storedBytes(target)).toBeLessThan(2 * MiB);
    expect(notices).toEqual([]);
    expect(readdirSync(folder)).toEqual(['a.raw']);
    expect(result.bytes.buffered + result.bytes.zeroed).toBe(bytes.length);
  });

  it('whatever the chunks and the length', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 300 * KiB }), { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 1, max: 3 * MiB }),
        fc.array(fc.nat(3 * MiB), { maxLength: 6 }),
        async (sizes, length, places) => {
          const bytes = Buffer.alloc(length);
          for (const place of places) bytes[place % length] = 1;
          const { target } = await take(streamOf(bytes, sizes), { name: 'a.raw', from: 'raw' });
          expect(readFileSync(target).equals(bytes)).toBe(true);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('and on to a stream unchanged', async () => {
    const bytes = sampleBytes(3 * MiB + 5);
    const output = new Collected();
    await take(streamOf(bytes, [77_777]), { name: '-', from: 'raw', to: 'raw', output });
    expect(output.bytes().equals(bytes)).toBe(true);
  });
});

describe('a raw stream into an image', () => {
  const kinds = [
    { to: 'vhd', type: 'dynamic' },
    { to: 'vhd', type: 'fixed' },
    { to: 'vhdx', type: 'dynamic' },
    { to: 'vhdx', type: 'fixed' },
  ] as const;

  it.each(kinds)('of $type $to: straight with a size, spooled without', async (kind) => {
    const bytes = sampleBytes(9 * MiB + 100);
    const options = { name: 'a.img', from: 'raw', ...kind } as const;
    const spooled = await take(streamOf(bytes), options);
    const straight = await take(streamOf(bytes), { ...options, inputSize: bytes.length });
    expect(spooled.notices.join()).toContain(spooled.folder);
    expect(straight.notices).toEqual([]);
    expect(straight.result.virtualSize).toBe(9 * MiB + 512);
    const raw = path.join(straight.folder, 'expected.raw');
    writeFileSync(raw, Buffer.concat([bytes, Buffer.alloc(412)]));
    for (const { target } of [spooled, straight]) {
      const { same } = await compare(repeatableHost(), {
        a: target,
        b: raw,
        formatA: kind.to,
        formatB: 'raw',
      });
      expect(same).toBe(true);
    }
    expect(readFileSync(straight.target).equals(readFileSync(spooled.target))).toBe(true);
  });

  it('chooses sectors by the partition table at its start', async () => {
    const bytes = sampleBytes();
    bytes.write('EFI PART', 4096, 'latin1');
    const options = { name: 'a.vhd', from: 'raw', inputSize: bytes.length } as const;
    await expect(take(streamOf(bytes), options)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('an image as a stream', () => {
  it.each(['vhd', 'vhdx'] as const)('%s is spooled beside the target, without a name', async (format) => {
    const folder = testFolder();
    const raw = path.join(folder, 'disk.raw');
    const image = path.join(folder, 'image');
    writeFileSync(raw, sampleBytes());
    await convert(repeatableHost(), { source: raw, target: image, to: format });
    const names: string[][] = [];
    async function* input(): AsyncGenerator<Uint8Array> {
      yield* streamOf(readFileSync(image));
      names.push(readdirSync(folder));
    }
    const notices: string[] = [];
    const target = path.join(folder, 'out.raw');
    const notice = (text: string): void => void notices.push(text);
    const result = await convert(repeatableHost(), { source: '-', target, input: input(), notice });
    expect(result.from).toBe(format);
    expect(readFileSync(target).equals(readFileSync(raw))).toBe(true);
    expect(names).toEqual([['disk.raw', 'image']]);
    expect(notices).toHaveLength(1);
    expect(notices[0]).toContain(`in ${folder}`);
  });

  it('is spooled where it is asked to be', async () => {
    const tempDir = testFolder('spool');
    const { notices } = await take(streamOf(sampleBytes()), { name: 'a.vhdx', tempDir });
    expect(notices[0]).toContain(`in ${tempDir}:`);
    expect(readdirSync(tempDir)).toEqual([]);
  });
});

describe('what is refused leaves nothing behind', () => {
  async function refusal(
    input: AsyncIterable<Uint8Array>,
    options: Partial<ConvertOptions>,
  ): Promise<{ code: string; hint: string; left: string[] }> {
    const folder = testFolder();
    const target = path.join(folder, 'target.vhdx');
    const error = await convert(repeatableHost(), { source: '-', target, input, ...options }).catch((e) => e);
    return { code: error.code, hint: error.hint, left: readdirSync(folder) };
  }
  const bytes = sampleBytes(2 * MiB);

  it.each([
    ['ends early', streamOf(bytes.subarray(0, MiB)), 'IO_FAILED'],
    ['is longer than said', streamOf(Buffer.concat([bytes, bytes])), 'INVALID_ARGUMENT'],
    ['is one byte too long', streamOf(Buffer.concat([bytes, Buffer.alloc(1)])), 'INVALID_ARGUMENT'],
    ['is one byte short', streamOf(bytes.subarray(1)), 'IO_FAILED'],
    ['is empty', streamOf(Buffer.alloc(0)), 'IO_FAILED'],
  ])('a stream that %s', async (_, input, code) => {
    const answer = await refusal(input, { from: 'raw', inputSize: bytes.length });
    expect(answer).toMatchObject({ code, left: [] });
    expect(answer.hint).toBeTruthy();
  });

  it.each(['raw', 'vhd', 'vhdx', undefined] as const)('an empty stream as %s', async (from) => {
    const answer = await refusal(streamOf(Buffer.alloc(0)), from ? { from } : {});
    expect(answer).toMatchObject({ code: 'IO_FAILED', left: [] });
  });

  it('a stream that breaks', async () => {
    const broken = new Error('broken');
    async function* input(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, MiB);
      throw broken;
    }
    for (const options of [
      {},
      { from: 'raw' as const, to: 'raw' as const },
      { from: 'raw' as const, inputSize: 8 * MiB },
    ]) {
      const folder = testFolder();
      const target = path.join(folder, 'target.vhdx');
      const running = convert(repeatableHost(), { source: '-', target, input: input(), ...options });
      await expect(running).rejects.toBe(broken);
      expect(readdirSync(folder)).toEqual([]);
    }
  });

  it('a target that is there already, before anything is read', async () => {
    const folder = testFolder();
    const target = path.join(folder, 'target.vhdx');
    writeFileSync(target, 'mine');
    let asked = false;
    async function* input(): AsyncGenerator<Uint8Array> {
      asked = true;
      yield bytes;
    }
    const running = convert(repeatableHost(), { source: '-', target, input: input() });
    await expect(running).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    expect(asked).toBe(false);
    expect(readFileSync(target, 'utf8')).toBe('mine');
  });

  it('an image that was cut off', async () => {
    const folder = testFolder();
    const raw = path.join(folder, 'disk.raw');
    const image = path.join(folder, 'image.vhdx');
    writeFileSync(raw, sampleBytes());
    await convert(repeatableHost(), { source: raw, target: image });
    const cut = readFileSync(image);
    const answer = await refusal(streamOf(cut.subarray(0, cut.length - 2 * MiB)), { from: 'vhdx' });
    expect(answer).toMatchObject({ code: 'IMAGE_CORRUPT', left: [] });
  });

  it('a folder for the spool that is not there', async () => {
    const tempDir = path.join(testFolder(), 'missing');
    expect(await refusal(streamOf(bytes), { tempDir })).toMatchObject({ code: 'NOT_FOUND', left: [] });
    expect(existsSync(tempDir)).toBe(false);
  });
});

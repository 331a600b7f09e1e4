/** Images written front to back: the same bytes as files, whatever the source is like. */
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import { type ConvertOptions, convert } from '../../../../src/operations/convert.js';
import { difference } from '../../../support/content.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { Collected, repeatableHost } from '../../../support/stream-kit.js';
import { testFolder } from '../../../support/tmp.js';

const MiB = 1024 ** 2;

/** Data at the start, across blocks, in small pieces, and a block of nothing but stored zeros. */
function makeSource(file: string, size = 37 * MiB + 512): string {
  const fd = openSync(file, 'w');
  ftruncateSync(fd, size);
  const put = (offset: number, length: number): number =>
    writeSync(fd, seededBytes(length, offset), 0, length, offset);
  put(0, 100_000);
  put(3 * MiB - 4096, 2 * MiB);
  for (let index = 0; index < 40; index += 1) put(9 * MiB + index * 131_072, 512);
  writeSync(fd, Buffer.alloc(4 * MiB), 0, 4 * MiB, 18 * MiB);
  // Stored zeros at the end of an empty block, data at the start of the next.
  writeSync(fd, Buffer.alloc(4096), 0, 4096, 26 * MiB - 4096);
  put(26 * MiB, 100);
  put(size - 512, 512);
  closeSync(fd);
  return file;
}

type Kind = Pick<ConvertOptions, 'to' | 'type' | 'blockSize' | 'sectorSize'>;

const KINDS: readonly [string, Kind][] = [
  ['raw', { to: 'raw' }],
  ['dynamic VHD', { to: 'vhd' }],
  ['dynamic VHD of 512 KiB blocks', { to: 'vhd', blockSize: MiB / 2 }],
  ['dynamic VHD of 16 MiB blocks', { to: 'vhd', blockSize: 16 * MiB }],
  ['fixed VHD', { to: 'vhd', type: 'fixed' }],
  ['dynamic VHDX', { to: 'vhdx' }],
  ['dynamic VHDX of 1 MiB blocks', { to: 'vhdx', blockSize: MiB }],
  ['dynamic VHDX of 32 MiB blocks', { to: 'vhdx', blockSize: 32 * MiB }],
  ['fixed VHDX', { to: 'vhdx', type: 'fixed' }],
];

describe.each(KINDS)('a %s', (_, kind) => {
  it.each(['holes', 'scan'] as const)('is byte for byte what a file would be (zeros: %s)', async (zeros) => {
    const folder = testFolder();
    const source = makeSource(path.join(folder, 'source.raw'));
    const target = path.join(folder, 'target');
    const common = { source, target, zeros, ...kind };
    const file = await convert(repeatableHost(), { ...common, provider: 'buffered' });
    const output = new Collected();
    const streamed = await convert(repeatableHost(), { ...common, output });
    const copy = path.join(folder, 'streamed');
    writeFileSync(copy, output.bytes());
    expect(await difference(target, copy)).toBeUndefined();
    expect(streamed).toMatchObject({
      fileSize: file.fileSize,
      virtualSize: file.virtualSize,
      type: file.type,
    });
    expect(streamed.bytes.buffered + streamed.bytes.zeroed).toBe(statSync(source).size);
  });
});

it('of a small disk, and of one without data', async () => {
  for (const size of [512, MiB]) {
    const folder = testFolder();
    const source = path.join(folder, 'source.raw');
    writeFileSync(source, Buffer.alloc(size));
    for (const to of ['raw', 'vhd', 'vhdx'] as const) {
      const target = path.join(folder, `target.${to}`);
      await convert(repeatableHost(), { source, target, to, provider: 'buffered', zeros: 'holes' });
      const output = new Collected();
      await convert(repeatableHost(), { source, target, to, output });
      expect(output.bytes().equals(readFileSync(target))).toBe(true);
    }
  }
});

it('knows its length beforehand: progress ends at its total and never goes back', async () => {
  const source = makeSource(path.join(testFolder(), 'source.raw'));
  const seen: [number, number][] = [];
  const output = new Collected();
  const progress = { update: (done: number, total: number) => void seen.push([done, total]) };
  const result = await convert(repeatableHost(), { source, target: '-', to: 'vhdx', output, progress });
  expect(
    seen.every(([done, total], at) => total === result.fileSize && done > (seen[at - 1]?.[0] ?? 0)),
  ).toBe(true);
  expect(seen.at(-1)).toEqual([result.fileSize, result.fileSize]);
});

it('never has more than one write under way, and nothing is reused before it is taken', async () => {
  const source = makeSource(path.join(testFolder(), 'source.raw'));
  const plain = new Collected();
  await convert(repeatableHost(), { source, target: '-', to: 'vhdx', output: plain });
  const slow = new Collected();
  let busy = 0;
  const output = {
    async write(bytes: Uint8Array) {
      busy += 1;
      expect(busy).toBe(1);
      await new Promise((resolve) => setTimeout(resolve, 2));
      await slow.write(bytes);
      busy -= 1;
    },
  };
  await convert(repeatableHost(), { source, target: '-', to: 'vhdx', output });
  expect(slow.bytes().equals(plain.bytes())).toBe(true);
});

it('writes nothing in a dry run, and foresees the length', async () => {
  const source = makeSource(path.join(testFolder(), 'source.raw'));
  const output = new Collected();
  const options = { source, target: '-', to: 'vhd' as const, output };
  const foreseen = await convert(repeatableHost(), { ...options, dryRun: true });
  expect(output.bytes().length).toBe(0);
  await convert(repeatableHost(), options);
  expect(foreseen.fileSize).toBe(output.bytes().length);
});

describe('failures', () => {
  it('of the sink come out as they are', async () => {
    const source = makeSource(path.join(testFolder(), 'source.raw'));
    const failure = new Error('nobody there');
    let calls = 0;
    const output = {
      async write() {
        calls += 1;
        if (calls === 3) throw failure;
      },
    };
    await expect(convert(repeatableHost(), { source, target: '-', to: 'raw', output })).rejects.toBe(failure);
    expect(calls).toBe(3);
  });

  it('a source that changes meanwhile is named', async () => {
    const source = makeSource(path.join(testFolder(), 'source.raw'));
    let calls = 0;
    const output = {
      async write() {
        calls += 1;
        if (calls === 2) {
          const fd = openSync(source, 'r+');
          writeSync(fd, 'changed', 20 * MiB);
          closeSync(fd);
        }
      },
    };
    const error = await convert(repeatableHost(), { source, target: '-', to: 'raw', output }).catch((e) => e);
    expect(error).toBeInstanceOf(VhdkitError);
    expect(error).toMatchObject({ code: 'SOURCE_CHANGED', context: { path: source } });
  });

  it('even when it changes after the last of it was read', async () => {
    const source = path.join(testFolder(), 'source.raw');
    writeFileSync(source, 'data');
    truncateSync(source, 8 * MiB);
    let calls = 0;
    const output = {
      async write() {
        calls += 1;
        if (calls === 8) writeFileSync(source, 'other');
      },
    };
    const running = convert(repeatableHost(), { source, target: '-', to: 'raw', output });
    await expect(running).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
    expect(calls).toBe(8);
  });

  it('stops when asked to', async () => {
    const source = makeSource(path.join(testFolder(), 'source.raw'));
    const controller = new AbortController();
    const output = { write: async () => controller.abort() };
    const { signal } = controller;
    const running = convert(repeatableHost(), { source, target: '-', to: 'raw', output, signal });
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('a format must be said', async () => {
    const source = makeSource(path.join(testFolder(), 'source.raw'));
    const running = convert(repeatableHost(), { source, target: '-', output: new Collected() });
    await expect(running).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

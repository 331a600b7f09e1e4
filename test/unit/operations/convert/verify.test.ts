/** `convert --verify`: a target that is not what the source is never gets its name. */
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../../src/base/clock.js';
import { systemRandom } from '../../../../src/base/random.js';
import { systemTimer } from '../../../../src/base/timer.js';
import type { FileSystem } from '../../../../src/io/file-system.js';
import { nodeFileSystem } from '../../../../src/io/node-file-system.js';
import { type ConvertOptions, type ConvertResult, convert } from '../../../../src/operations/convert.js';
import { hash } from '../../../../src/operations/hash.js';
import { sha256Sync } from '../../../support/content.js';
import { type Fault, faultyFileSystem, flipBitAt } from '../../../support/faulty-file-system.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../../../support/tmp.js';

const KiB = 1024;
const MiB = 1024 * KiB;
/** Where the disk's data begins: not at a block's start. */
const DATA_AT = 3 * MiB + 4 * KiB;
/** No whole number of 2 MiB blocks. */
const SIZE = 9 * MiB + 512;

/** A few bytes among zeros that are stored with them. */
const MARKER = Buffer.from('a needle among zeros');
const MARKER_AT = 6 * MiB + 64 * KiB;

let source: string;

beforeAll(() => {
  source = path.join(makeTempFolder('verify'), 'disk.raw');
  const disk = Buffer.alloc(SIZE);
  seededBytes(MiB, 7).copy(disk, DATA_AT);
  MARKER.copy(disk, MARKER_AT);
  disk[SIZE - 1] = 0x55;
  writeFileSync(source, disk);
});

interface Kind {
  name: string;
  to: 'raw' | 'vhd' | 'vhdx';
  type: 'fixed' | 'dynamic';
  reader: 'vhd-lib' | 'vhdkit';
}

const KINDS: readonly Kind[] = [
  { name: 'raw', to: 'raw', type: 'fixed', reader: 'vhdkit' },
  { name: 'fixed VHD', to: 'vhd', type: 'fixed', reader: 'vhdkit' },
  { name: 'dynamic VHD', to: 'vhd', type: 'dynamic', reader: 'vhd-lib' },
  { name: 'fixed VHDX', to: 'vhdx', type: 'fixed', reader: 'vhdkit' },
  { name: 'dynamic VHDX', to: 'vhdx', type: 'dynamic', reader: 'vhdkit' },
];

function run(
  fileSystem: FileSystem,
  options: Partial<ConvertOptions> & { target: string },
): Promise<ConvertResult> {
  const host = { fileSystem, clock: systemClock, random: systemRandom, timer: systemTimer };
  return convert(host, { source, verify: true, provider: 'buffered', ...options });
}

/** Converts with a fault; returns the error. Nothing may be left in the folder. */
async function failure(fault: Fault, kind: Kind, options: Partial<ConvertOptions> = {}): Promise<unknown> {
  const folder = testFolder();
  const target = path.join(folder, 'out');
  const { to, type } = kind;
  const error = await run(faultyFileSystem(fault), { target, to, type, ...options }).catch((e: unknown) => e);
  expect(readdirSync(folder)).toEqual([]);
  return error;
}

/** Where a marked piece of the disk is in a good image. */
async function placeOf(marker: Buffer, kind: Kind): Promise<number> {
  const target = path.join(testFolder(), 'good');
  await run(nodeFileSystem, { target, to: kind.to, type: kind.type, verify: false });
  const at = readFileSync(target).indexOf(marker);
  expect(at).toBeGreaterThan(0);
  return at;
}

describe.each(KINDS)('$name', (kind) => {
  test('a good one is published, with the digest of the disk', async () => {
    const target = path.join(testFolder(), 'out');
    const result = await run(nodeFileSystem, { target, to: kind.to, type: kind.type });
    expect(result.verified?.reader).toBe(kind.reader);
    expect(result.sha256).toBe(sha256Sync(source));
    const host = { fileSystem: nodeFileSystem, clock: systemClock, random: systemRandom, timer: systemTimer };
    expect((await hash(host, { path: target, format: kind.to })).sha256).toBe(result.sha256);
  });

  test('a flipped bit in the payload is found, and where', async () => {
    const at = 700 * KiB + 13;
    const marker = readFileSync(source).subarray(DATA_AT, DATA_AT + 64);
    const place = (await placeOf(marker, kind)) + at;
    expect(await failure(flipBitAt(place), kind)).toMatchObject({
      code: 'VERIFY_FAILED',
      context: { offset: DATA_AT + at },
    });
  });

  test('without --verify the same fault goes unnoticed: it is verification that finds it', async () => {
    const target = path.join(testFolder(), 'out');
    const marker = readFileSync(source).subarray(DATA_AT, DATA_AT + 64);
    const place = await placeOf(marker, kind);
    const result = await run(faultyFileSystem(flipBitAt(place)), {
      target,
      to: kind.to,
      type: kind.type,
      verify: false,
    });
    expect(result.sha256).toBeUndefined();
    expect(result.verified).toBeUndefined();
  });

  test('a bit that appears where the source has zeros is found', async () => {
    const place = (await placeOf(MARKER, kind)) + 1000;
    expect(await failure(flipBitAt(place), kind)).toMatchObject({
      code: 'VERIFY_FAILED',
      context: { offset: MARKER_AT + 1000 },
    });
  });
});

const DYNAMIC_VHD: Kind = { name: 'dynamic VHD', to: 'vhd', type: 'dynamic', reader: 'vhd-lib' };

describe('structures', () => {
  test.each([
    [
      'a cleared bit of a sector bitmap',
      (bytes: Buffer) => bytes.length === 512 && bytes.every((b) => b === 0xff),
    ],
    ['a footer', (bytes: Buffer) => bytes.length === 512 && bytes.toString('latin1', 0, 8) === 'conectix'],
    ['the header', (bytes: Buffer) => bytes.toString('latin1', 0, 8) === 'cxsparse'],
  ])('dynamic VHD: %s', async (_name, isVictim) => {
    let hits = 0;
    const fault: Fault = (bytes) => {
      for (let at = 0; at + 512 <= bytes.length; at += 512) {
        if (!isVictim(bytes.subarray(at, at + 512))) continue;
        hits += 1;
        // In a bitmap: sectors that hold data. Elsewhere: a reserved byte under the checksum.
        bytes[at + 300] = (bytes[at + 300] ?? 0) ^ 0xff;
      }
    };
    const error = await failure(fault, DYNAMIC_VHD);
    expect(hits).toBeGreaterThan(0);
    expect(error).toMatchObject({ code: 'VERIFY_FAILED' });
  });

  test('fixed VHD: its footer', async () => {
    const error = await failure(flipBitAt(SIZE + 20), { ...DYNAMIC_VHD, type: 'fixed' });
    expect(error).toMatchObject({ code: 'VERIFY_FAILED' });
  });

  test('VHDX: one of the two headers, which a reader would shrug off', async () => {
    const error = await failure(flipBitAt(64 * KiB + 100), { ...DYNAMIC_VHD, to: 'vhdx' });
    expect(error).toMatchObject({ code: 'VERIFY_FAILED' });
    expect((error as Error).message).toContain('VHDX_HEADER_COPY_DAMAGED');
  });
});

test('what failed verification is not kept for --resume', async () => {
  expect(await failure(flipBitAt(DATA_AT), KINDS[0] as Kind, { resume: true })).toMatchObject({
    code: 'VERIFY_FAILED',
  });
});

test('an existing target survives', async () => {
  const target = path.join(testFolder(), 'out.raw');
  writeFileSync(target, 'precious');
  const fault = faultyFileSystem(flipBitAt(DATA_AT));
  await expect(run(fault, { target, force: true })).rejects.toMatchObject({ code: 'VERIFY_FAILED' });
  expect(readFileSync(target, 'utf8')).toBe('precious');
});

test('a source that changed is named as the reason', async () => {
  const folder = testFolder();
  const [own, target] = [path.join(folder, 'disk.raw'), path.join(folder, 'out.raw')];
  copyFileSync(source, own);
  const onVerify = async () => {
    const bytes = readFileSync(own);
    bytes[DATA_AT] = (bytes[DATA_AT] ?? 0) ^ 1;
    writeFileSync(own, bytes);
    return { update: () => undefined };
  };
  await expect(run(nodeFileSystem, { source: own, target, onVerify })).rejects.toMatchObject({
    code: 'SOURCE_CHANGED',
    context: { path: own },
  });
  expect(readdirSync(folder)).toEqual(['disk.raw']);
});

test('progress goes up to the size of the disk, once more', async () => {
  const target = path.join(testFolder(), 'out.vhd');
  const seen: number[] = [];
  const totals = new Set<number>();
  const progress = {
    update(done: number, total: number) {
      seen.push(done);
      totals.add(total);
    },
  };
  await run(nodeFileSystem, { target, onVerify: async () => progress });
  expect([...totals]).toEqual([SIZE]);
  expect(seen.at(-1)).toBe(SIZE);
  expect(seen).toEqual(seen.toSorted((a, b) => a - b));
});

test('stopping while it is read back leaves nothing', async () => {
  const folder = testFolder();
  const controller = new AbortController();
  const onVerify = async () => {
    controller.abort();
    return { update: () => undefined };
  };
  const target = path.join(folder, 'out.vhdx');
  await expect(run(nodeFileSystem, { target, onVerify, signal: controller.signal })).rejects.toMatchObject({
    code: 'CANCELLED',
  });
  expect(readdirSync(folder)).toEqual([]);
});

/** Write-once devices that are damaged, of somebody else, full, too small, or open where locks can't be shared. */
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { crc32c } from '../../../../src/base/crc32c.js';
import { createWriteOnce, deleteWriteOnce, openWriteOnce } from '../../../../src/layers/write-once/open.js';
import type { Expectations } from '../../../../src/layers/write-once/shape.js';
import {
  expectChunk,
  PRIMARY,
  readChunk,
  refusal,
  writeChunk,
  writtenOf,
} from '../../../conformance/write-once.suite.js';
import { loopDevice, mountedFileSystem } from '../../../support/mounts.js';
import { canLoop, canMount } from '../../../support/requires.js';
import { must, PROJECT_ROOT } from '../../../support/run.js';
import { testFolder } from '../../../support/tmp.js';
import { filled } from '../../../support/write-once-content.js';

const CHUNK = 4096;
const SIZE = 10 * CHUNK + 512;
const FIRST_COPY = 65_536;
const SECOND_COPY = 2 * 65_536;
const HEADER = 4096;

type Kind = Parameters<typeof createWriteOnce>[0];

async function sample(kind: Kind = 'sparse', chunks: readonly number[] = [1, 4]): Promise<string> {
  const file = path.join(testFolder('write-once'), 'device');
  const chunkSize = kind === 'vhdx' ? 1 << 20 : CHUNK;
  await createWriteOnce(kind, file, { size: (SIZE / CHUNK) * chunkSize, chunkSize, primaryId: PRIMARY });
  const device = await openWriteOnce(file);
  for (const chunk of chunks) await writeChunk(device, chunk);
  await device.close();
  return file;
}

function change(file: string, edit: (bytes: Buffer) => void): void {
  const bytes = readFileSync(file);
  edit(bytes);
  writeFileSync(file, bytes);
}

async function defectOf(file: string, expected: Expectations = {}): Promise<string> {
  try {
    const device = await openWriteOnce(file, expected);
    try {
      await writtenOf(device);
      return 'sound';
    } finally {
      await device.close();
    }
  } catch (error) {
    const { code, context } = error as { code: string; context: { defect?: string } };
    return context.defect ?? code;
  }
}

/** A header with other values and a right checksum. */
function reheaded(bytes: Buffer, edit: (header: Buffer) => void): void {
  for (const at of [0, HEADER]) {
    const header = bytes.subarray(at, at + HEADER);
    edit(header);
    header.writeUInt32LE(0, 12);
    header.writeUInt32LE(crc32c(header), 12);
  }
}

describe('a damaged sparse device', () => {
  it('is whole as long as one copy of header and map is', async () => {
    for (const at of [0, HEADER, FIRST_COPY, SECOND_COPY]) {
      const file = await sample();
      change(file, (bytes) => bytes.fill(0xff, at, at + 512));
      const device = await openWriteOnce(file, { primaryId: PRIMARY });
      expect(await writtenOf(device), `damage at ${at}`).toEqual([1, 4]);
      expectChunk(await readChunk(device, 4), filled(CHUNK, 4));
      expect(await writeChunk(device, 7)).toBe('written');
      await device.close();
      // A damaged copy of the map has been put right by then.
      const other = at === FIRST_COPY ? SECOND_COPY : FIRST_COPY;
      if (at >= FIRST_COPY) change(file, (bytes) => bytes.fill(0, other, other + 4096));
      const again = await openWriteOnce(file, { writable: false });
      expect(await writtenOf(again), `damage at ${at}, then at ${other}`).toEqual([1, 4, 7]);
      await again.close();
    }
  });

  it('is refused when nothing tells what it has', async () => {
    const cases: [string, (bytes: Buffer) => void, string][] = [
      ['both headers', (bytes) => void bytes.fill(0x55, 8, 2 * HEADER), 'WRITE_ONCE_HEADER_DAMAGED'],
      [
        'both copies of a page',
        (bytes) => [FIRST_COPY, SECOND_COPY].forEach((at) => void bytes.fill(1, at + 40, at + 41)),
        'WRITE_ONCE_MAP_DAMAGED',
      ],
      [
        'zeros for a map',
        (bytes) => [FIRST_COPY, SECOND_COPY].forEach((at) => void bytes.fill(0, at, at + 4096)),
        'WRITE_ONCE_MAP_DAMAGED',
      ],
      [
        'chunks behind the end',
        (bytes) => {
          for (const at of [FIRST_COPY, SECOND_COPY]) {
            const page = bytes.subarray(at, at + 4096);
            page.fill(0xff, 32 + 2, 32 + 3);
            page.writeUInt32LE(0, 4);
            page.writeUInt32LE(crc32c(page), 4);
          }
        },
        'WRITE_ONCE_MAP_DAMAGED',
      ],
      ['a later version', (bytes) => reheaded(bytes, (header) => header.writeUInt32LE(2, 8)), 'UNSUPPORTED'],
      [
        'a size that is none',
        (bytes) => reheaded(bytes, (header) => header.writeBigUInt64LE(2n ** 63n, 16)),
        'WRITE_ONCE_HEADER_DAMAGED',
      ],
      [
        'chunks of a size that is none',
        (bytes) => reheaded(bytes, (header) => header.writeUInt32LE(12_345, 24)),
        'WRITE_ONCE_HEADER_DAMAGED',
      ],
      [
        'data elsewhere',
        (bytes) => reheaded(bytes, (header) => header.writeBigUInt64LE(0n, 64)),
        'WRITE_ONCE_HEADER_DAMAGED',
      ],
    ];
    for (const [name, edit, defect] of cases) {
      const file = await sample();
      change(file, edit);
      expect(await defectOf(file), name).toBe(defect);
    }
    const short = await sample();
    truncateSync(short, (1 << 20) + SIZE - 1);
    expect(await defectOf(short)).toBe('WRITE_ONCE_CUT_OFF');
  });

  it('pages of another device are no pages of this one', async () => {
    const [file, other] = [await sample(), await sample('sparse', [2, 3])];
    const foreign = readFileSync(other);
    change(file, (bytes) => {
      foreign.copy(bytes, FIRST_COPY, FIRST_COPY, FIRST_COPY + 4096);
      foreign.copy(bytes, SECOND_COPY, SECOND_COPY, SECOND_COPY + 4096);
    });
    expect(await defectOf(file)).toBe('WRITE_ONCE_MAP_DAMAGED');
  });
});

describe('a damaged thin device', () => {
  it('is refused', async () => {
    const header = await sample('thin');
    change(header, (bytes) => void bytes.fill(7, 20, 21));
    expect(await defectOf(header)).toBe('WRITE_ONCE_HEADER_DAMAGED');

    const map = await sample('thin');
    truncateSync(`${map}.map`, 8192);
    expect(await defectOf(map)).toBe('WRITE_ONCE_MAP_DAMAGED');
    writeFileSync(`${map}.map`, Buffer.alloc(65_536, 3));
    expect(await defectOf(map)).toBe('WRITE_ONCE_MAP_DAMAGED');

    const foreign = await sample('thin');
    copyFileSync(`${await sample('thin')}.map`, `${foreign}.map`);
    expect(await defectOf(foreign)).toBe('WRITE_ONCE_MAP_DAMAGED');

    const short = await sample('thin');
    truncateSync(short, 65_536 + CHUNK);
    const device = await openWriteOnce(short);
    expectChunk(await readChunk(device, 1), filled(CHUNK, 1));
    await expect(device.locate(4)).rejects.toMatchObject({ context: { defect: 'WRITE_ONCE_CUT_OFF' } });
    await device.close();
    await deleteWriteOnce(short);
    expect(await refusal(openWriteOnce(short))).toBe('NOT_FOUND');
  });
});

describe('what is no write-once device', () => {
  it('is refused', async () => {
    const folder = testFolder('write-once');
    const raw = path.join(folder, 'raw');
    writeFileSync(raw, Buffer.alloc(65_536, 5));
    expect(await defectOf(raw)).toBe('FORMAT_UNKNOWN');
    expect(await refusal(openWriteOnce(path.join(folder, 'nothing')))).toBe('NOT_FOUND');
  });

  it('impossible shapes are refused, and files that are there', async () => {
    const file = path.join(testFolder('write-once'), 'device');
    const shape = { size: SIZE, chunkSize: CHUNK, primaryId: PRIMARY };
    for (const wrong of [
      { size: 0 },
      { size: 2 ** 46 + 1 },
      { size: 1.5 },
      { chunkSize: 2048 },
      { chunkSize: 1 << 25 },
      { chunkSize: 5000 },
      { primaryId: '' },
      { primaryId: 'x'.repeat(513) },
    ])
      expect(await refusal(createWriteOnce('sparse', file, { ...shape, ...wrong }))).toBe('INVALID_ARGUMENT');
    expect(await refusal(createWriteOnce('vhdx', file, shape))).toBe('INVALID_ARGUMENT');
    for (const kind of ['sparse', 'vhd', 'thin'] as const) {
      await createWriteOnce(kind, file, shape);
      expect(await refusal(createWriteOnce(kind, file, shape))).toBe('ALREADY_EXISTS');
      await createWriteOnce(kind, file, { ...shape, overwrite: true });
      await deleteWriteOnce(file);
    }
  });
});

it.skipIf(!canMount('tmpfs')).each(['sparse', 'vhd', 'vhdx', 'thin'] as const)(
  'a %s device on full storage says so, keeps what it has, and goes on when there is room',
  async (kind) => {
    const memory = mountedFileSystem('tmpfs', 16);
    if (!memory) throw new Error('no tmpfs');
    onTestFinished(() => memory.unmount());
    const file = path.join(memory.path, 'device');
    const chunkSize = 1 << 20;
    await createWriteOnce(kind, file, { size: 64 * chunkSize, chunkSize, primaryId: PRIMARY });
    const device = await openWriteOnce(file);
    const ballast = path.join(memory.path, 'ballast');
    writeFileSync(ballast, Buffer.alloc(4 << 20));
    let chunk = 0;
    let end = '';
    for (; chunk < 64 && end === ''; chunk += 1)
      end = await writeChunk(device, chunk).then(
        () => '',
        (error: { code: string }) => error.code,
      );
    expect(end).toBe('NO_SPACE');
    const written = await writtenOf(device);
    expect(written).toEqual(Array.from({ length: chunk - 1 }, (_, index) => index));
    truncateSync(ballast, 0);
    await writeChunk(device, chunk);
    await device.close();
    const again = await openWriteOnce(file);
    for (const each of [...written, chunk])
      expectChunk(await readChunk(again, each), filled(chunkSize, each));
    await again.close();
  },
);

describe.skipIf(!canLoop())('a sparse device on a block device', () => {
  it('needs room and emptiness', async () => {
    const folder = testFolder('write-once');
    const image = path.join(folder, 'disk');
    writeFileSync(image, '');
    truncateSync(image, (1 << 20) + SIZE + 512);
    const loop = loopDevice(image);
    onTestFinished(() => loop.detach());
    const shape = { size: SIZE, chunkSize: CHUNK, primaryId: PRIMARY };
    const larger = { ...shape, size: SIZE + (1 << 20) };
    expect(await refusal(createWriteOnce('sparse', loop.path, larger))).toBe('TARGET_TOO_SMALL');
    await createWriteOnce('sparse', loop.path, shape);
    const device = await openWriteOnce(loop.path, { primaryId: PRIMARY, empty: true });
    expect(await writeChunk(device, 10)).toBe('written');
    await device.close();
    const again = { ...shape, overwrite: true };
    await expect(createWriteOnce('sparse', loop.path, shape)).rejects.toMatchObject({
      code: 'WRITE_ONCE_MISMATCH',
      context: { reason: 'not-empty' },
    });
    await createWriteOnce('sparse', loop.path, again);
    const empty = await openWriteOnce(loop.path, { empty: true });
    await empty.close();
  });
});

it('without native calls one process at a time has a sparse device', async () => {
  const file = await sample();
  const script = `
    import { openWriteOnce } from './src/layers/write-once/open.ts';
    const device = await openWriteOnce(${JSON.stringify(file)});
    const first = await openWriteOnce(${JSON.stringify(file)}).then(() => 'shared', (error) => error.code);
    await device.close();
    const again = await openWriteOnce(${JSON.stringify(file)});
    process.stdout.write(first + ' ' + (await again.isWritten(4)));
    await again.close();`;
  const result = await must(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    cwd: PROJECT_ROOT,
    env: { VHDKIT_NO_NATIVE: '1' },
  });
  expect(result.stdout).toBe('IN_USE true');
});

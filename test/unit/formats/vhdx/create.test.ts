import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GiB, MiB, TiB } from '../../../../src/base/bytes.js';
import { type RandomSource, systemRandom } from '../../../../src/base/random.js';
import type { CreateImageOptions, DiskImage } from '../../../../src/formats/disk-image.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { decodeHeader } from '../../../../src/formats/vhdx/header.js';
import { defaultBlockSize } from '../../../../src/formats/vhdx/new-image.js';
import { decodeRegionTable } from '../../../../src/formats/vhdx/region-table.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';

const clock = { now: () => 0 };

function options(change: Partial<CreateImageOptions>): CreateImageOptions {
  return { type: 'dynamic', virtualSize: 16 * MiB, clock, random: systemRandom, ...change };
}

/** A new image in memory and the file under it. */
async function create(change: Partial<CreateImageOptions>): Promise<{ file: MemoryFile; image: DiskImage }> {
  const file = new MemoryFile(new Uint8Array(0), 'new.vhdx');
  return { file, image: await vhdxDriver.create(file, options(change)) };
}

async function write(image: DiskImage, offset: number, bytes: Uint8Array): Promise<void> {
  const prepared = await image.prepareWrite(offset, bytes.length);
  let at = offset;
  for (const place of prepared.places) {
    expect(place.offset).toBe(at);
    at += place.length;
    const part = bytes.subarray(place.offset - offset, place.offset - offset + place.length);
    await place.file.write(part, place.fileOffset);
  }
  expect(at).toBe(offset + bytes.length);
  await prepared.commit();
}

async function contents(image: DiskImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.virtualSize);
  await readDisk(image, bytes, 0);
  return bytes;
}

describe('a new image', () => {
  it('has the structures the specification asks for', async () => {
    const { file, image } = await create({ virtualSize: 10 * MiB });
    await image.flush();
    const bytes = file.bytes();
    const headers = [65536, 131072].map((at) => decodeHeader(bytes.subarray(at, at + 4096)));
    expect(headers.map((header) => header?.sequence)).toEqual([1n, 2n]);
    for (const header of headers) {
      expect(header).toMatchObject({ version: 1, logVersion: 0, logLength: MiB, logOffset: BigInt(MiB) });
      expect(header?.logGuid).toMatch(/^0+-0+-0+-0+-0+$/);
    }
    expect(
      Buffer.compare(bytes.subarray(192 * 1024, 256 * 1024), bytes.subarray(256 * 1024, 320 * 1024)),
    ).toBe(0);
    const regions = decodeRegionTable(bytes.subarray(192 * 1024, 256 * 1024));
    expect(regions).toMatchObject([
      { offset: 3 * MiB, length: MiB, required: true },
      { offset: 2 * MiB, length: MiB, required: true },
    ]);
    expect(file.size()).toBe(4 * MiB);
    const opened = await vhdxDriver.open(file, {});
    expect(opened).toMatchObject({
      format: 'vhdx',
      type: 'dynamic',
      virtualSize: 10 * MiB,
      blockSize: 2 * MiB,
      logicalSectorSize: 512,
      physicalSectorSize: 4096,
      creator: 'vhdkit',
      log: 'clean',
      warnings: [],
      parentLink: undefined,
      id: image.id,
      linkId: image.linkId,
    });
    expect(await opened.check()).toEqual([]);
    expect(await opened.layout()).toEqual({
      allocatedBlocks: 0,
      totalBlocks: 5,
      payloadAlignment: undefined,
      extents: 0,
    });
  });

  it('is no image before it is flushed', async () => {
    const { file, image } = await create({});
    await write(image, 0, Uint8Array.of(1));
    const copy = new MemoryFile(file.bytes(), 'crashed');
    await expect(vhdxDriver.open(copy, {})).rejects.toMatchObject({
      context: { defect: 'VHDX_HEADER_INVALID' },
    });
  });

  it('writes the headers last, one after the other, when all else is durable', async () => {
    const { file, image } = await create({ virtualSize: 16 * MiB });
    await write(image, 0, Uint8Array.of(1));
    const steps: string[] = [];
    const [realWrite, realFlush] = [file.write.bind(file), file.flush.bind(file)];
    file.write = async (bytes, offset) => {
      steps.push(`write ${offset / 65536}`);
      await realWrite(bytes, offset);
    };
    file.flush = async () => {
      steps.push('flush');
      await realFlush();
    };
    await image.flush();
    // 48 × 64 KiB is the BAT, 1 and 2 are the headers.
    expect(steps).toEqual(['flush', 'write 48', 'flush', 'write 1', 'flush', 'write 2', 'flush']);
  });

  it('takes its ids from the random source', async () => {
    let next = 0;
    const random: RandomSource = { bytes: (count) => new Uint8Array(count).fill(++next) };
    const { image } = await create({ random });
    expect(new Set([image.id, image.linkId]).size).toBe(2);
    expect(image.id).toMatch(/^(..)\1{3}-/);
  });

  it('fixed: every block has its place, nothing is stored, everything reads as zeros', async () => {
    const { file, image } = await create({ type: 'fixed', virtualSize: 64 * GiB + 4096 });
    expect(image.unwrittenIsZero).toBe(true);
    await image.flush();
    const opened = await vhdxDriver.open(file, {});
    expect(opened.type).toBe('fixed');
    const blocks = 32 * 1024 + 1;
    expect(await opened.layout()).toMatchObject({ allocatedBlocks: blocks, totalBlocks: blocks, extents: 1 });
    expect(file.size()).toBe(4 * MiB + blocks * 2 * MiB);
    expect(await file.allocatedBytes()).toBeLessThan(2 * MiB);
    const extents = await opened.locate(0, opened.virtualSize);
    expect(extents).toHaveLength(1);
    expect(extents[0]).toMatchObject({ state: 'data', fileOffset: 4 * MiB });
    const tail = new Uint8Array(8192).fill(1);
    await readDisk(opened, tail, opened.virtualSize - tail.length);
    expect(tail.every((byte) => byte === 0)).toBe(true);
    expect(await opened.check()).toEqual([]);
  });

  it('opened again is read only', async () => {
    const { file, image } = await create({});
    await image.flush();
    const opened = await vhdxDriver.open(file, {});
    expect(opened.unwrittenIsZero).toBe(false);
    await expect(opened.prepareWrite(0, 512)).rejects.toMatchObject({ code: 'READ_ONLY' });
  });

  it.each([
    [MiB, 512, 2 * MiB],
    [200 * GiB, 512, 2 * MiB],
    [256 * GiB, 4096, 4 * MiB],
    [500 * GiB, 512, 4 * MiB],
    [2 * TiB - 64 * GiB, 512, 16 * MiB],
    [64 * TiB, 512, 32 * MiB],
  ] as const)('of %d bytes in sectors of %d has blocks of %d', (size, sector, expected) => {
    expect(defaultBlockSize(size, sector)).toBe(expected);
  });

  it.each([
    ['INVALID_ARGUMENT', { virtualSize: 0 }],
    ['INVALID_ARGUMENT', { virtualSize: -512 }],
    ['INVALID_ARGUMENT', { virtualSize: 1.5 }],
    ['INVALID_ARGUMENT', { virtualSize: 513 }],
    ['INVALID_ARGUMENT', { virtualSize: MiB + 512, logicalSectorSize: 4096 }],
    ['INVALID_ARGUMENT', { logicalSectorSize: 1024 as 512 }],
    ['INVALID_ARGUMENT', { physicalSectorSize: 0 as 512 }],
    ['INVALID_ARGUMENT', { blockSize: 512 * 1024 }],
    ['INVALID_ARGUMENT', { blockSize: 3 * MiB }],
    ['INVALID_ARGUMENT', { blockSize: 512 * MiB }],
    ['INVALID_ARGUMENT', { blockSize: Number.NaN }],
    ['TARGET_TOO_SMALL', { virtualSize: 64 * TiB + 512 }],
  ] as const)('is refused with %s for %o', async (code, change) => {
    await expect(create(change)).rejects.toMatchObject({ code });
  });

  it('is refused on a device', async () => {
    const device = Object.create(new MemoryFile(), { kind: { value: 'device' }, path: { value: '/dev/x' } });
    await expect(vhdxDriver.create(device, options({}))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('writing a new image', () => {
  it('gives a long write one place', async () => {
    const { image } = await create({ virtualSize: 64 * MiB, blockSize: MiB });
    const prepared = await image.prepareWrite(1000, 40 * MiB);
    expect(prepared.places).toHaveLength(1);
    await prepared.commit();
    expect(await image.layout()).toMatchObject({ allocatedBlocks: 41, extents: 1 });
  });

  it('shows old content until the commit, and uses the space of aborted writes again, clean', async () => {
    const { file, image } = await create({ virtualSize: 8 * MiB, blockSize: 2 * MiB });
    const prepared = await image.prepareWrite(MiB, 2 * MiB);
    const [place] = prepared.places;
    await file.write(new Uint8Array(2 * MiB).fill(7), place?.fileOffset ?? 0);
    expect(await image.locate(0, 8 * MiB)).toEqual([{ state: 'zero', offset: 0, length: 8 * MiB }]);
    await prepared.abort();
    await prepared.commit();
    expect((await image.layout()).allocatedBlocks).toBe(0);
    await write(image, 6 * MiB + 5, Uint8Array.of(9));
    const expected = new Uint8Array(8 * MiB);
    expected[6 * MiB + 5] = 9;
    expect(Buffer.compare(await contents(image), expected)).toBe(0);
    expect((await image.locate(6 * MiB, 1))[0]).toMatchObject({ fileOffset: 4 * MiB });
  });

  it('refuses a second write to a block that is not committed', async () => {
    const { image } = await create({ blockSize: 2 * MiB });
    await image.prepareWrite(0, 512);
    await expect(image.prepareWrite(MiB, 512)).rejects.toThrow('block 0');
  });

  it('refuses ranges outside the disk', async () => {
    const { image } = await create({ virtualSize: 4 * MiB });
    await expect(image.prepareWrite(4 * MiB - 1, 2)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    await expect(image.locate(-1, 2)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
  });

  it('goes on after a flush', async () => {
    const { file, image } = await create({});
    await write(image, 0, Uint8Array.of(1));
    await image.flush();
    await write(image, 8 * MiB, Uint8Array.of(2));
    await image.flush();
    const bytes = await contents(await vhdxDriver.open(file, {}));
    expect([bytes[0], bytes[8 * MiB]]).toEqual([1, 2]);
    expect(await image.check()).toEqual([]);
  });

  it('spills a table that does not fit into the pages in memory', async () => {
    // A block every 8 GiB: each entry in another of 128 pages, twice round.
    const virtualSize = TiB;
    const { file, image } = await create({ virtualSize, blockSize: MiB });
    const offsets = Array.from({ length: 256 }, (_, n) => ((n * 37) % 256) * 4 * GiB + n * MiB);
    for (const [n, offset] of offsets.entries()) await write(image, offset, Uint8Array.of(n + 1, 1));
    await image.flush();
    const opened = await vhdxDriver.open(file, {});
    for (const [n, offset] of offsets.entries()) {
      const bytes = new Uint8Array(2);
      await readDisk(opened, bytes, offset);
      expect([...bytes]).toEqual([(n + 1) & 255, 1]);
    }
    expect((await opened.layout()).allocatedBlocks).toBe(256);
    expect(await opened.check()).toEqual([]);
  });

  it('agrees with an array of bytes for any pattern of writes', async () => {
    const pattern = fc.record({
      type: fc.constantFrom('fixed' as const, 'dynamic' as const),
      blockSize: fc.constantFrom(MiB, 2 * MiB, 4 * MiB),
      sectorSize: fc.constantFrom(512 as const, 4096 as const),
      blocks: fc.integer({ min: 1, max: 3 }),
      edge: fc.constantFrom(-1, 0, 1),
      writes: fc.array(
        fc.record({
          from: fc.nat(2 ** 24),
          length: fc.nat(3 * MiB),
          value: fc.integer({ min: 1, max: 255 }),
        }),
        { maxLength: 6 },
      ),
    });
    await fc.assert(
      fc.asyncProperty(pattern, async ({ type, blockSize, sectorSize, blocks, edge, writes }) => {
        const virtualSize = blocks * blockSize + edge * sectorSize;
        const { file, image } = await create({ type, virtualSize, blockSize, logicalSectorSize: sectorSize });
        const model = new Uint8Array(virtualSize);
        for (const { from, length, value } of writes) {
          const offset = from % virtualSize;
          const bytes = new Uint8Array(Math.min(length + 1, virtualSize - offset)).fill(value);
          await write(image, offset, bytes);
          model.set(bytes, offset);
        }
        expect(Buffer.compare(await contents(image), model)).toBe(0);
        await image.flush();
        expect(file.size() % MiB).toBe(0);
        const opened = await vhdxDriver.open(file, {});
        expect(opened).toMatchObject({ type, virtualSize, blockSize, logicalSectorSize: sectorSize });
        expect(Buffer.compare(await contents(opened), model)).toBe(0);
        expect(await opened.check()).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});

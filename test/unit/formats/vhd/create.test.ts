import { describe, expect, it } from 'vitest';
import { createVhd } from '../../../../src/formats/vhd/create.js';
import { vhdDriver } from '../../../../src/formats/vhd/driver.js';
import { decodeFooter, MAX_DYNAMIC_SIZE } from '../../../../src/formats/vhd/footer.js';
import { vhdTimestamp } from '../../../../src/formats/vhd/timestamp.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { contentOf, createOptions, KiB, MiB, openBytes, put } from './images.js';

const GiB = 1024 * MiB;

/** Records what is done to a file, in order. */
class RecordingFile extends MemoryFile {
  readonly log: string[] = [];

  override async write(buffer: Uint8Array, offset: number): Promise<void> {
    this.log.push(`write ${offset}+${buffer.length}`);
    await super.write(buffer, offset);
  }

  override async flush(): Promise<void> {
    this.log.push('flush');
    await super.flush();
  }
}

async function make(type: 'fixed' | 'dynamic', size: number, blockSize?: number) {
  const file = new RecordingFile();
  const image = await createVhd(file, createOptions(type, size, blockSize));
  return { file, image };
}

describe('new VHDs', () => {
  it('have the footer that Windows writes', async () => {
    const { file, image } = await make('dynamic', 40 * MiB);
    await image.flush();
    const bytes = Buffer.from(file.bytes());
    const footer = decodeFooter(bytes.subarray(0, 512));
    expect(footer).toMatchObject({
      features: 2,
      version: 0x10000,
      dataOffset: 512n,
      timestamp: Date.UTC(2024, 0, 2, 3, 4, 5) / 1000 - 946_684_800,
      creatorApplication: 'win ',
      creatorVersion: 0xa0000,
      creatorHost: 0x5769326b,
      originalSize: BigInt(40 * MiB),
      currentSize: BigInt(40 * MiB),
      geometry: { cylinders: 963, heads: 5, sectorsPerTrack: 17 },
      diskType: 3,
      savedState: 0,
    });
    expect(bytes.subarray(0, 512).equals(bytes.subarray(bytes.length - 512))).toBe(true);
    expect(image.id).toBe((await openBytes(bytes)).id);
    expect(image).toMatchObject({ linkId: image.id, creator: 'win', log: 'none', type: 'dynamic' });
  });

  it('lay an empty dynamic disk out like Windows: 8 KiB, the footer in the first bitmap slot', async () => {
    const { file, image } = await make('dynamic', 40 * MiB);
    await image.flush();
    const bytes = Buffer.from(file.bytes());
    expect(bytes.length).toBe(8192);
    expect(bytes.toString('latin1', 7680, 7688)).toBe('conectix');
    expect(bytes.readBigUInt64BE(512 + 16)).toBe(1536n);
    expect(bytes.readUInt32BE(512 + 28)).toBe(20);
    expect(bytes.subarray(1536, 2048).every((byte) => byte === 0xff)).toBe(true);
  });

  it.each([
    [2 * MiB, 1],
    [2 * MiB + 512, 2],
    [4 * MiB - 512, 2],
    [512, 1],
  ])('%d bytes have %d table entries', async (size, entries) => {
    const { file, image } = await make('dynamic', size);
    await image.flush();
    expect(Buffer.from(file.bytes()).readUInt32BE(512 + 28)).toBe(entries);
    expect((await openBytes(file.bytes())).virtualSize).toBe(size);
  });

  it('put blocks one after the other, data at 4 KiB boundaries, bitmap right before', async () => {
    const { file, image } = await make('dynamic', 40 * MiB);
    await put(image, 6 * MiB, Buffer.from('first'));
    await put(image, 2 * MiB + 5, Buffer.from('second'));
    await image.flush();
    const bytes = Buffer.from(file.bytes());
    expect(bytes.readUInt32BE(1536 + 12)).toBe(15);
    expect(bytes.readUInt32BE(1536 + 4)).toBe(15 + 4104);
    expect(bytes.toString('latin1', 8192, 8197)).toBe('first');
    expect(bytes.toString('latin1', 8192 + 4104 * 512 + 5, 8192 + 4104 * 512 + 11)).toBe('second');
    expect(bytes.subarray(7680, 8192).every((byte) => byte === 0xff)).toBe(true);
    expect(bytes.length % 4096).toBe(0);
    expect(await image.layout()).toEqual({
      allocatedBlocks: 2,
      totalBlocks: 20,
      payloadAlignment: 4096,
      extents: 2,
    });
    expect(await (await openBytes(bytes)).layout()).toEqual(await image.layout());
  });

  it('count blocks in order as one run', async () => {
    const { file, image } = await make('dynamic', 64 * KiB, 4 * KiB);
    await put(image, 0, Buffer.alloc(64 * KiB, 1));
    await image.flush();
    expect(await image.layout()).toMatchObject({
      allocatedBlocks: 16,
      extents: 1,
      payloadAlignment: 8192,
    });
    expect(await (await openBytes(file.bytes())).layout()).toEqual(await image.layout());
  });

  it('make data durable before anything names it', async () => {
    const { file, image } = await make('dynamic', 8 * MiB);
    await put(image, 0, Buffer.alloc(512, 1));
    expect(file.log).toEqual(['write 8192+512', 'write 4096+4096']);
    await image.flush();
    expect(file.log[2]).toBe('flush');
    expect([...file.log.slice(3, -1)].sort()).toEqual([
      'write 0+512',
      'write 1536+512',
      `write ${8192 + 2 * MiB + 3584}+512`,
      'write 512+1024',
    ]);
    expect(file.log.at(-1)).toBe('flush');
    const length = file.log.length;
    await image.flush();
    expect(file.log.slice(length)).toEqual(['flush']);
  });

  it('write the footer of a fixed disk after its payload', async () => {
    const { file, image } = await make('fixed', 4 * MiB);
    await put(image, MiB, Buffer.alloc(512, 1));
    await image.flush();
    await image.flush();
    expect(file.log).toEqual([`write ${MiB}+512`, 'flush', `write ${4 * MiB}+512`, 'flush', 'flush']);
    expect(file.size()).toBe(4 * MiB + 512);
    expect(Buffer.from(file.bytes()).readBigUInt64BE(4 * MiB + 16)).toBe(2n ** 64n - 1n);
  });

  it('show old content until a write is committed, and forget it when it is aborted', async () => {
    const { file, image } = await make('dynamic', 64 * KiB, 4 * KiB);
    const write = await image.prepareWrite(4 * KiB, 8 * KiB);
    for (const place of write.places) await place.file.write(Buffer.alloc(place.length, 9), place.fileOffset);
    expect((await contentOf(image)).every((byte) => byte === 0)).toBe(true);
    await write.abort();
    await put(image, 60 * KiB, Buffer.from('x'));
    await image.flush();
    const content = await contentOf(await openBytes(file.bytes()));
    expect(content[60 * KiB]).toBe('x'.charCodeAt(0));
    content[60 * KiB] = 0;
    expect(content.every((byte) => byte === 0)).toBe(true);
  });

  it('move the footer along when room was taken and given back after a flush', async () => {
    const { file, image } = await make('dynamic', 64 * KiB, 4 * KiB);
    await image.flush();
    const write = await image.prepareWrite(0, 4 * KiB);
    for (const place of write.places) await place.file.write(Buffer.alloc(place.length, 9), place.fileOffset);
    await write.abort();
    await image.flush();
    expect((await openBytes(file.bytes())).warnings).toEqual([]);
  });

  it('can be committed or aborted only once', async () => {
    const { image } = await make('dynamic', 64 * KiB, 4 * KiB);
    const write = await image.prepareWrite(0, 10);
    await write.commit();
    await expect(write.abort()).rejects.toThrow('once');
    await expect(write.commit()).rejects.toThrow('once');
  });

  it('check themselves as a reader would', async () => {
    for (const type of ['fixed', 'dynamic'] as const) {
      const { image } = await make(type, 64 * KiB, 4 * KiB);
      await put(image, 100, Buffer.alloc(30 * KiB, 1));
      expect(await image.check()).toEqual([]);
    }
  });

  it('may be terabytes: 2040 GiB dynamic with four megabytes of table', async () => {
    const { file, image } = await make('dynamic', MAX_DYNAMIC_SIZE);
    expect(MAX_DYNAMIC_SIZE).toBe(2040 * GiB);
    await put(image, MAX_DYNAMIC_SIZE - 512, Buffer.alloc(512, 7));
    await image.flush();
    const again = await vhdDriver.open(file, {});
    const [extent] = await again.locate(MAX_DYNAMIC_SIZE - 512, 512);
    expect(extent).toMatchObject({ state: 'data', length: 512 });
    expect((await again.layout()).totalBlocks).toBe(1044480);
    expect(await again.check()).toEqual([]);
  });

  it('may be 64 TiB when they are fixed', async () => {
    const { file, image } = await make('fixed', 65536 * GiB);
    await image.flush();
    expect((await vhdDriver.open(file, {})).virtualSize).toBe(65536 * GiB);
  });

  it.each([
    ['an odd size', 'dynamic', 1000, undefined, 'INVALID_ARGUMENT'],
    ['no size', 'fixed', 0, undefined, 'INVALID_ARGUMENT'],
    ['a fraction', 'fixed', 512.5, undefined, 'INVALID_ARGUMENT'],
    ['a negative size', 'fixed', -512, undefined, 'INVALID_ARGUMENT'],
    ['more than 2040 GiB', 'dynamic', 2040 * GiB + 512, undefined, 'TARGET_TOO_SMALL'],
    ['more than 64 TiB', 'fixed', 65536 * GiB + 512, undefined, 'TARGET_TOO_SMALL'],
    ['2 KiB blocks', 'dynamic', MiB, 2048, 'INVALID_ARGUMENT'],
    ['512 MiB blocks', 'dynamic', MiB, 512 * MiB, 'INVALID_ARGUMENT'],
    ['512-byte blocks', 'dynamic', MiB, 512, 'INVALID_ARGUMENT'],
    ['blocks of no power of two', 'dynamic', MiB, 12288, 'INVALID_ARGUMENT'],
    ['too many blocks', 'dynamic', 2040 * GiB, 4096, 'INVALID_ARGUMENT'],
  ] as const)('refuse %s', async (_name, type, size, blockSize, code) => {
    await expect(make(type, size, blockSize)).rejects.toMatchObject({ code });
  });

  it('say that a block size other than 2 MiB is unusual', async () => {
    expect((await make('dynamic', 40 * MiB)).image.warnings).toEqual([]);
    expect((await make('fixed', 40 * MiB)).image.warnings).toEqual([]);
    for (const size of [4 * KiB, 4 * MiB]) {
      const { image } = await make('dynamic', 40 * MiB, size);
      expect(image.warnings).toMatchObject([{ code: 'VHD_BLOCK_SIZE_UNUSUAL', severity: 'warning' }]);
    }
  });

  it('refuse 4096-byte sectors and files that are not empty', async () => {
    const options = { ...createOptions('fixed', MiB), logicalSectorSize: 4096 as const };
    await expect(createVhd(new MemoryFile(), options)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    const used = new MemoryFile(Buffer.from('data'));
    await expect(createVhd(used, createOptions('fixed', MiB))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    expect(Buffer.from(used.bytes()).toString()).toBe('data');
  });

  it('keep times within 32 bits', () => {
    expect(vhdTimestamp(946_684_800_000)).toBe(0);
    expect(vhdTimestamp(0)).toBe(0);
    expect(vhdTimestamp(946_684_801_999)).toBe(1);
    expect(vhdTimestamp(Number.MAX_SAFE_INTEGER)).toBe(0xffffffff);
  });
});

import { describe, expect, it } from 'vitest';
import { createVhd } from '../../../../src/formats/vhd/create.js';
import { openVhd } from '../../../../src/formats/vhd/open.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import {
  AT,
  BLOCK,
  contentOf,
  createOptions,
  editFooters,
  editHeader,
  KiB,
  MiB,
  openBytes,
  patterned,
  put,
  SMALL_SIZE,
  sealFooter,
  smallContent,
  smallDynamic,
  smallFixed,
  WatchedFile,
} from './images.js';

const STRIDE = 512 + BLOCK;

/** Two blocks, the second of which (the disk's last) is stored as far as `keep` bytes; then the footer. */
async function cutLastBlock(keep: number, size: number): Promise<{ bytes: Buffer; model: Buffer }> {
  const file = new MemoryFile();
  const image = await createVhd(file, createOptions('dynamic', size, BLOCK));
  const model = patterned(size, 1);
  await put(image, 0, model);
  await image.flush();
  const whole = Buffer.from(file.bytes());
  const lastData = whole.readUInt32BE(AT.bat + 4) * 512 + 512;
  const bytes = Buffer.concat([whole.subarray(0, lastData + keep), whole.subarray(whole.length - 512)]);
  return { bytes, model };
}

describe('blocks cut off by the end of the file', () => {
  it('lose nothing when the last one ends with the disk', async () => {
    const { bytes, model } = await cutLastBlock(1024, BLOCK + 1024);
    const image = await openBytes(bytes);
    expect((await contentOf(image)).equals(model)).toBe(true);
    expect(await image.check()).toMatchObject([{ code: 'VHD_BLOCK_CUT', severity: 'note' }]);
    const withoutFooter = await openBytes(bytes.subarray(0, bytes.length - 512));
    expect((await contentOf(withoutFooter)).equals(model)).toBe(true);
  });

  it('read as zeros where a writer put its footer early, and check says what is missing', async () => {
    const { bytes, model } = await cutLastBlock(512, BLOCK + 4096);
    const image = await openBytes(bytes);
    const content = await contentOf(image);
    expect(content.subarray(0, BLOCK + 512).equals(model.subarray(0, BLOCK + 512))).toBe(true);
    expect(content.subarray(BLOCK + 512).every((byte) => byte === 0)).toBe(true);
    expect(await image.check()).toMatchObject([
      { code: 'VHD_BLOCK_CUT', severity: 'error', offset: AT.bat + 4 },
    ]);
    expect((await image.locate(BLOCK, 4096)).map(({ state, length }) => [state, length])).toEqual([
      ['data', 512],
      ['zero', 4096 - 512],
    ]);
  });

  it('are refused when they are the last and the file was cut within the disk', async () => {
    const { bytes, model } = await cutLastBlock(512, BLOCK + 4096);
    const incomplete = bytes.subarray(0, bytes.length - 512);
    await expect(contentOf(await openBytes(incomplete))).rejects.toMatchObject({
      code: 'IMAGE_CORRUPT',
      context: { defect: 'VHD_BLOCK_CUT', offset: AT.bat + 4 },
    });
    const tolerant = await openBytes(incomplete, { tolerant: true });
    expect((await contentOf(tolerant)).equals(Buffer.from(model).fill(0, BLOCK + 512))).toBe(true);
  });

  it('are refused when the file itself was cut, unless tolerance is asked for', async () => {
    const bytes = (await smallDynamic()).subarray(0, AT.secondData + 1000);
    const strict = await openBytes(bytes);
    await expect(contentOf(strict)).rejects.toMatchObject({ context: { defect: 'VHD_BLOCK_CUT' } });
    expect((await strict.locate(0, 2 * BLOCK)).length).toBe(2);
    const content = await contentOf(await openBytes(bytes, { tolerant: true }));
    const model = smallContent().fill(0, 2 * BLOCK + 1000);
    expect(content.equals(model)).toBe(true);
  });

  it('go for fixed disks too', async () => {
    const whole = await smallFixed();
    const bytes = Buffer.concat([whole.subarray(0, 1536), whole.subarray(whole.length - 512)]);
    await expect(openBytes(bytes)).rejects.toMatchObject({ context: { defect: 'VHD_FIXED_TRUNCATED' } });
    const image = await openBytes(bytes, { tolerant: true });
    expect((await contentOf(image)).equals(smallContent().fill(0, 1536))).toBe(true);
    expect(image.warnings).toMatchObject([{ code: 'VHD_FIXED_TRUNCATED', severity: 'error' }]);
  });
});

describe('sector bitmaps of dynamic disks', () => {
  async function withBitmap(creator: string, fill: number): Promise<Buffer> {
    const bytes = editFooters(await smallDynamic(), (footer) => footer.write(creator, 28, 'latin1'));
    bytes[AT.firstBitmap + 1] = fill;
    return bytes;
  }

  it('hide sectors whose bit is clear', async () => {
    const image = await openBytes(await withBitmap('win ', 0b1111_0111));
    const model = smallContent().fill(0, 12 * 512, 13 * 512);
    expect((await contentOf(image)).equals(model)).toBe(true);
    expect(await image.check()).toMatchObject([
      { code: 'VHD_BITMAP_HIDES_DATA', severity: 'warning', offset: AT.firstBitmap },
    ]);
  });

  it('hide them silently on storage that XenServer does not zero', async () => {
    const image = await openBytes(await withBitmap('tap\0', 0));
    expect((await contentOf(image)).subarray(8 * 512, 16 * 512).every((byte) => byte === 0)).toBe(true);
    expect(await image.check()).toEqual([]);
  });

  it('are fine when they hide zeros', async () => {
    const bytes = await withBitmap('win ', 0);
    bytes.fill(0, AT.firstData + 8 * 512, AT.firstData + 16 * 512);
    expect(await (await openBytes(bytes)).check()).toEqual([]);
  });
});

describe('checking', () => {
  it('reports every wrong entry with its place', async () => {
    const bytes = await smallDynamic();
    bytes.writeUInt32BE(1, AT.bat);
    bytes.writeUInt32BE(0x7fffffff, AT.bat + 4);
    expect(await (await openBytes(bytes)).check()).toMatchObject([
      { code: 'VHD_BAT_ENTRY_IN_METADATA', severity: 'error', offset: AT.bat },
      { code: 'VHD_BAT_ENTRY_OUTSIDE_FILE', severity: 'error', offset: AT.bat + 4 },
    ]);
  });

  it('names all blocks of an overlap', async () => {
    const bytes = await smallDynamic();
    bytes.writeUInt32BE(AT.firstBitmap / 512 + 3, AT.bat + 12);
    const findings = await (await openBytes(bytes)).check();
    expect(findings.map(({ code, offset }) => [code, offset])).toEqual([
      ['VHD_BLOCKS_OVERLAP', AT.bat],
      ['VHD_BLOCKS_OVERLAP', AT.bat + 12],
    ]);
  });

  it('finds space that no block uses, and not the gaps that writers leave', async () => {
    const bytes = await smallDynamic();
    expect(await (await openBytes(bytes)).check()).toEqual([]);
    bytes.writeUInt32BE(0xffffffff, AT.bat + 8);
    expect(await (await openBytes(bytes)).check()).toMatchObject([
      { code: 'VHD_UNUSED_SPACE', severity: 'leak', offset: AT.firstData + BLOCK },
    ]);
  });

  it('knows where a batmap is, and believes it only inside the file', async () => {
    const bytes = await smallDynamic();
    bytes.write('tdbatmap', 2048, 'latin1');
    bytes.writeBigUInt64BE(4096n, 2048 + 8);
    bytes.writeUInt32BE(1, 2048 + 16);
    expect(await (await openBytes(bytes)).check()).toEqual([]);
    bytes.writeUInt32BE(4096 / 512, AT.bat + 12);
    expect(await (await openBytes(bytes)).check()).toMatchObject([
      { code: 'VHD_BAT_ENTRY_IN_METADATA', offset: AT.bat + 12, message: expect.stringContaining('batmap') },
    ]);
    bytes.writeBigUInt64BE(2n ** 63n, 2048 + 8);
    const findings = await (await openBytes(bytes)).check();
    expect(new Set(findings.map(({ code }) => code))).toEqual(new Set(['VHD_BLOCKS_OVERLAP']));
  });

  it('knows packed strides and blocks in any order', async () => {
    const blocks = 8;
    const data = 2048;
    const content = patterned(blocks * BLOCK, 9);
    const whole = await smallDynamic();
    const footer = editFooters(Buffer.from(whole.subarray(AT.endFooter)), (each) =>
      each.writeBigUInt64BE(BigInt(blocks * BLOCK), 48),
    );
    const bytes = Buffer.alloc(data + blocks * STRIDE + 512);
    whole.copy(bytes, 0, 0, data);
    for (let block = 0; block < blocks; block += 1) {
      const slot = data + ((block * 3) % blocks) * STRIDE;
      bytes.writeUInt32BE(slot / 512, AT.bat + block * 4);
      bytes.fill(0xff, slot, slot + 512);
      content.copy(bytes, slot + 512, block * BLOCK, (block + 1) * BLOCK);
    }
    for (const at of [0, bytes.length - 512]) footer.copy(bytes, at, 0, 512);
    editHeader(bytes, (header) => header.writeUInt32BE(blocks, 28));
    const image = await openBytes(bytes);
    expect((await contentOf(image)).equals(content)).toBe(true);
    expect((await image.check()).filter(({ severity }) => severity !== 'note')).toEqual([]);
    expect(await image.layout()).toMatchObject({ allocatedBlocks: 8, payloadAlignment: 512, extents: 8 });
  });

  it('bounds its findings, its reads and its time', async () => {
    const size = 2048 * MiB;
    const blocks = size / (4 * KiB);
    const file = new WatchedFile();
    const image = await createVhd(file, createOptions('dynamic', size, 4 * KiB));
    await image.flush();
    const table = Buffer.alloc(blocks * 4);
    for (let block = 0; block < blocks; block += 1)
      table.writeUInt32BE(block % 2 ? 1 : 0x40000000 + block, block * 4);
    await file.write(table, AT.bat);
    const started = performance.now();
    const findings = await (await openVhd(file)).check();
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(findings.length).toBe(66);
    expect(findings.at(-1)?.message).toContain(`${blocks / 2 - 32} more`);
    expect(file.longestRead).toBeLessThanOrEqual(256 * KiB);
  });

  it('is not made slow by blocks that all share one place', async () => {
    const size = 512 * MiB;
    const file = new WatchedFile();
    const image = await createVhd(file, createOptions('dynamic', size, 4 * KiB));
    await put(image, 0, Buffer.alloc(4 * KiB, 1));
    await image.flush();
    const table = Buffer.alloc((size / (4 * KiB)) * 4);
    await file.read(table, AT.bat);
    const first = table.readUInt32BE(0);
    for (let at = 0; at < table.length; at += 4) table.writeUInt32BE(first, at);
    await file.write(table, AT.bat);
    file.reads = 0;
    const findings = await (await openVhd(file)).check();
    expect(findings.length).toBe(33);
    expect(file.reads).toBeLessThan(100);
  });

  it('repeats what opening found, without changing the file', async () => {
    const bytes = await smallDynamic();
    bytes[100] = 1;
    const file = new MemoryFile(bytes);
    file.writable = false;
    const image = await openVhd(file);
    expect(await image.check()).toMatchObject([{ code: 'VHD_FOOTER_COPY_DAMAGED' }]);
    expect(Buffer.from(file.bytes()).equals(bytes)).toBe(true);
  });

  it('notes fields that stricter programs object to', async () => {
    const bytes = await smallFixed();
    const footer = bytes.subarray(SMALL_SIZE);
    footer.writeUInt32BE(0, 8);
    footer.writeUInt32BE(0x00010001, 12);
    footer.writeBigUInt64BE(512n, 16);
    sealFooter(bytes, SMALL_SIZE);
    const findings = await (await openBytes(bytes)).check();
    expect(
      findings.map(({ code, severity, offset }) => [code, severity, (offset ?? 0) - SMALL_SIZE]),
    ).toEqual([
      ['VHD_RESERVED_FIELD', 'note', 8],
      ['VHD_RESERVED_FIELD', 'note', 12],
      ['VHD_RESERVED_FIELD', 'note', 16],
    ]);
  });
});

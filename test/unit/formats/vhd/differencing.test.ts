import { describe, expect, it } from 'vitest';
import { openVhd } from '../../../../src/formats/vhd/open.js';
import { decodeUtf16Be, locatorSpace } from '../../../../src/formats/vhd/parent-locator.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { differencingVhd } from '../../../support/vhd-differencing.js';
import {
  AT,
  BLOCK,
  CHILD_ID,
  contentOf,
  editHeader,
  openBytes,
  PARENT_ID,
  SMALL_SIZE,
  smallChild,
} from './images.js';

const PARENT_GUID = 'aabbccdd-eeff-0011-2233-445566778899';

async function linkOf(bytes: Buffer) {
  return (await openBytes(bytes)).parentLink;
}

describe('differencing VHDs', () => {
  it('answer absent for what they do not hold', async () => {
    const image = await openBytes(smallChild());
    expect(image).toMatchObject({ type: 'differencing', blockSize: BLOCK, virtualSize: SMALL_SIZE });
    const extents = await image.locate(0, SMALL_SIZE);
    expect(extents.map(({ state, offset, length }) => [state, offset, length])).toEqual([
      ['absent', 0, BLOCK],
      ['data', BLOCK, 1024],
      ['absent', BLOCK + 1024, 29 * 512],
      ['data', BLOCK + 31 * 512, 512],
      ['absent', 2 * BLOCK, 2 * BLOCK],
    ]);
    expect(extents[1]).toMatchObject({ file: image.file, fileOffset: 3584 + 512 });
    expect(extents[3]).toMatchObject({ fileOffset: 3584 + 512 + 31 * 512 });
  });

  it('answer ranges that begin and end within sectors', async () => {
    const image = await openBytes(smallChild());
    expect(await image.locate(BLOCK + 1000, 100)).toEqual([
      { state: 'data', offset: BLOCK + 1000, length: 24, file: image.file, fileOffset: 3584 + 512 + 1000 },
      { state: 'absent', offset: BLOCK + 1024, length: 76 },
    ]);
    expect(await image.locate(BLOCK - 1, 2)).toEqual([
      { state: 'absent', offset: BLOCK - 1, length: 1 },
      { state: 'data', offset: BLOCK, length: 1, file: image.file, fileOffset: 3584 + 512 },
    ]);
  });

  it('hold their own bytes', async () => {
    const content = await contentOf(await openBytes(smallChild()));
    const model = Buffer.alloc(SMALL_SIZE);
    model.fill(0x11, BLOCK, BLOCK + 512).fill(0x22, BLOCK + 512, BLOCK + 1024);
    model.fill(0x33, 2 * BLOCK - 512, 2 * BLOCK);
    expect(content.equals(model)).toBe(true);
  });

  it('name the parent by id and by every path they have', async () => {
    expect(await linkOf(smallChild())).toEqual({
      acceptedIds: [PARENT_GUID],
      candidates: [
        { source: 'W2ru', path: '.\\parent.vhd' },
        { source: 'W2ku', path: 'C:\\disks\\parent.vhd' },
        { source: 'parent name', path: 'C:\\disks\\parent.vhd' },
      ],
    });
  });

  it('try relative paths first, whatever the order in the header', async () => {
    const bytes = differencingVhd({
      size: SMALL_SIZE,
      uniqueId: CHILD_ID,
      parentId: PARENT_ID,
      parentName: 'ähnlich.vhd',
      locators: [
        { code: 'MacX', text: 'file:///disks/%C3%A4hnlich.vhd' },
        { code: 'W2ku', text: 'C:\\ähnlich.vhd' },
        { code: 'W2ru', text: '..\\ähnlich.vhd' },
      ],
      blockSize: BLOCK,
    });
    expect((await linkOf(bytes))?.candidates).toEqual([
      { source: 'W2ru', path: '..\\ähnlich.vhd' },
      { source: 'W2ku', path: 'C:\\ähnlich.vhd' },
      { source: 'MacX', path: 'file:///disks/%C3%A4hnlich.vhd' },
      { source: 'parent name', path: 'ähnlich.vhd' },
    ]);
  });

  it('decode deprecated locators as ANSI and leave opaque ones alone', async () => {
    const bytes = smallChild();
    bytes.fill(0, 2048, 2560).write('.\\parent.vhd', 2048, 'latin1');
    editHeader(bytes, (header) => {
      header.write('Wi2r', 576, 'latin1');
      header.writeUInt32BE(12, 576 + 8);
      header.write('Mac ', 600, 'latin1');
    });
    expect((await linkOf(bytes))?.candidates).toEqual([
      { source: 'Wi2r', path: '.\\parent.vhd' },
      { source: 'parent name', path: 'C:\\disks\\parent.vhd' },
    ]);
  });

  it('get by with the parent name, and even with nothing but the id', async () => {
    const options = { size: SMALL_SIZE, uniqueId: CHILD_ID, parentId: PARENT_ID, blockSize: BLOCK };
    expect((await linkOf(differencingVhd({ ...options, parentName: 'p.vhd' })))?.candidates).toEqual([
      { source: 'parent name', path: 'p.vhd' },
    ]);
    expect(await linkOf(differencingVhd(options))).toEqual({ acceptedIds: [PARENT_GUID], candidates: [] });
  });

  it('end a path at its first NUL', async () => {
    const bytes = smallChild();
    editHeader(bytes, (header) => header.writeUInt32BE(200, 576 + 8));
    expect((await linkOf(bytes))?.candidates[0]).toEqual({ source: 'W2ru', path: '.\\parent.vhd' });
  });

  it('keep the other candidates when one locator is broken', async () => {
    const bytes = smallChild();
    editHeader(bytes, (header) => header.writeBigUInt64BE(2n ** 60n, 576 + 16));
    const image = await openBytes(bytes);
    expect(image.parentLink?.candidates.map(({ source }) => source)).toEqual(['W2ku', 'parent name']);
    expect(image.warnings).toMatchObject([{ code: 'VHD_LOCATOR_INVALID', offset: AT.locators }]);
  });

  it('read at most 64 KiB of locator text', async () => {
    const small = smallChild();
    const footer = small.subarray(small.length - 512);
    const bytes = Buffer.concat([small, Buffer.alloc(128 * 1024, 'x'), footer]);
    const withLength = (length: number) =>
      editHeader(Buffer.from(bytes), (header) => header.writeUInt32BE(length, 576 + 8));
    expect((await openBytes(withLength(65536))).warnings).toEqual([]);
    expect((await openBytes(withLength(65537))).warnings).toMatchObject([{ code: 'VHD_LOCATOR_INVALID' }]);
  });

  it('are refused over a raw parent, with an explanation', async () => {
    const bytes = differencingVhd({
      size: SMALL_SIZE,
      uniqueId: CHILD_ID,
      parentId: new Uint8Array(16),
      blockSize: BLOCK,
    });
    await expect(openVhd(new MemoryFile(bytes))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('raw parent'),
    });
  });

  it('have parents only when their type says so', async () => {
    const bytes = smallChild();
    for (const start of [0, bytes.length - 512]) {
      bytes.writeUInt32BE(3, start + 60);
      bytes.writeUInt32BE((bytes.readUInt32BE(start + 64) + 1) >>> 0, start + 64);
    }
    const image = await openBytes(bytes);
    expect(image).toMatchObject({ type: 'dynamic', parentLink: undefined });
    expect((await image.locate(0, SMALL_SIZE)).map(({ state }) => state)).toEqual([
      'zero',
      'data',
      'zero',
      'data',
      'zero',
    ]);
  });
});

describe('locator fields', () => {
  it.each([
    [1, 20, 512],
    [2, 20, 1024],
    [511, 20, 511 * 512],
    [512, 20, 512],
    [4096, 66, 4096],
    [0, 700, 1024],
    [512, 700, 1024],
  ])('space %d for %d bytes of text means %d bytes', (dataSpace, dataLength, bytes) => {
    expect(locatorSpace({ dataSpace, dataLength })).toBe(bytes);
  });

  it('parent names are big-endian', () => {
    expect(decodeUtf16Be(Buffer.from('00410062', 'hex'))).toBe('Ab');
    expect(decodeUtf16Be(Buffer.from('004100', 'hex'))).toBe('A');
  });
});

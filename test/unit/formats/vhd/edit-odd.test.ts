/**
 * VHDs that other programs left in odd states: what can be changed safely, and what is refused.
 */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { decodeFooter } from '../../../../src/formats/vhd/footer.js';
import { specimen } from '../../../support/specimens.js';
import { bytesOf, complaints, editBytes, newImage, openInstant, shown } from './editing.js';
import {
  AT,
  BLOCK,
  editFooters,
  editHeader,
  KiB,
  patterned,
  put,
  SMALL_SIZE,
  sealFooter,
  smallDynamic,
  smallFixed,
} from './images.js';

/** Changes one sector and answers the file, after checking every instant in between. */
async function changed(bytes: Uint8Array): Promise<Buffer> {
  const { disk, edit } = editBytes(bytes);
  const image = await edit();
  const before = await shown(image);
  const wanted = Buffer.from(before);
  patterned(512, 9).copy(wanted, BLOCK);
  await put(image, BLOCK, patterned(512, 9));
  await image.flush();
  await image.close();
  for (const instant of disk.states({ reorderings: 3 })) {
    const content = await shown(await openInstant(instant));
    if (!content.equals(before) && !content.equals(wanted)) throw new Error(instant.label);
  }
  expect((await shown(await edit())).equals(wanted)).toBe(true);
  return bytesOf(disk);
}

function refusal(bytes: Uint8Array): Promise<unknown> {
  const { disk, edit } = editBytes(bytes);
  return edit().then(
    () => 'opened',
    (error: { code: string; context: { defect?: string } }) => {
      expect(disk.count).toBe(0);
      return `${error.code} ${error.context.defect ?? ''}`;
    },
  );
}

describe('a VHD with one footer', () => {
  it.each([
    ['none at the end', (bytes: Buffer) => bytes.subarray(0, AT.endFooter)],
    ['a damaged one at the end', (bytes: Buffer) => bytes.fill(0x55, AT.endFooter + 100, AT.endFooter + 200)],
    ['a damaged copy', (bytes: Buffer) => bytes.fill(0x55, 100, 200)],
    ['an empty copy', (bytes: Buffer) => bytes.fill(0, 0, 512)],
    [
      'a copy that says something else',
      (bytes: Buffer) => {
        bytes.writeUInt32BE(7, 24);
        return sealFooter(bytes, 0);
      },
    ],
    [
      'zeros behind the last block',
      (bytes: Buffer) => Buffer.concat([bytes.subarray(0, AT.endFooter), Buffer.alloc(700)]),
    ],
  ])('%s: both are there after the first change', async (_name, damage) => {
    const bytes = await changed(damage(await smallDynamic()));
    expect(bytes.subarray(0, 512).equals(bytes.subarray(bytes.length - 512))).toBe(true);
    expect(bytes.length % 512).toBe(0);
    expect(await complaints(bytes)).toEqual([]);
  });

  it.each(['dynamic', 'fixed'])('of 511 bytes: %s disks get the missing one', async (type) => {
    const bytes = type === 'fixed' ? await smallFixed() : await smallDynamic();
    const result = await changed(bytes.subarray(0, bytes.length - 1));
    expect(result.length % 512).toBe(0);
    expect(await complaints(result)).toEqual([]);
  });
});

describe('a VHD that writing would break', () => {
  it('is refused when its machine was saved', async () => {
    const bytes = editFooters(await smallDynamic(), (footer) => footer.writeUInt8(1, 84));
    expect(await refusal(bytes)).toBe('UNSUPPORTED VHD_SAVED_STATE');
  });

  it('is refused when blocks share a place', async () => {
    const bytes = await smallDynamic();
    bytes.writeUInt32BE(AT.firstBitmap / 512, AT.bat + 12);
    expect(await refusal(bytes)).toBe('IMAGE_CORRUPT VHD_BLOCKS_OVERLAP');
  });

  it('is refused when a block is outside the file, over structures or cut off', async () => {
    const [outside, over, cut] = [await smallDynamic(), await smallDynamic(), await smallDynamic()];
    outside.writeUInt32BE(0x1000, AT.bat + 12);
    over.writeUInt32BE(2, AT.bat + 12);
    cut.writeUInt32BE(AT.endFooter / 512 - 4, AT.bat + 12);
    expect(await refusal(outside)).toBe('IMAGE_CORRUPT VHD_BAT_ENTRY_OUTSIDE_FILE');
    expect(await refusal(over)).toBe('IMAGE_CORRUPT VHD_BAT_ENTRY_IN_METADATA');
    expect(await refusal(cut)).toBe('IMAGE_CORRUPT VHD_BLOCK_CUT');
  });

  it('is refused when checksums are wrong', async () => {
    const header = await smallDynamic();
    header[AT.header + 800] = 1;
    expect(await refusal(header)).toBe('IMAGE_CORRUPT VHD_HEADER_CHECKSUM');
    const footer = await smallFixed();
    footer[footer.length - 1] = 1;
    expect(await refusal(footer)).toBe('IMAGE_CORRUPT VHD_FOOTER_CHECKSUM');
  });
});

describe('a dynamic VHD of another program', () => {
  it('keeps sectors with clear bits zero until they are written, and shows no old bytes', async () => {
    const bytes = await smallDynamic();
    bytes.fill(0, AT.firstBitmap, AT.firstBitmap + 512);
    bytes.fill(0xdd, AT.firstData, AT.firstData + BLOCK);
    const { disk, edit } = editBytes(bytes);
    const image = await edit();
    await put(image, 1024, patterned(512, 5));
    const wanted = Buffer.alloc(BLOCK);
    patterned(512, 5).copy(wanted, 1024);
    expect((await shown(image)).subarray(0, BLOCK).equals(wanted)).toBe(true);
    await image.flush();
    await image.resize(SMALL_SIZE * 2);
    expect(bytesOf(disk).readUInt32BE(AT.firstBitmap)).toBe(0x20000000);
    expect((await shown(image)).subarray(0, BLOCK).equals(wanted)).toBe(true);
    for (const instant of disk.states()) {
      const first = (await shown(await openInstant(instant))).subarray(0, BLOCK);
      if (!first.equals(wanted) && !first.equals(Buffer.alloc(BLOCK))) throw new Error(instant.label);
    }
  });

  it('may have its last block cut off behind the end of the disk', async () => {
    const whole = await newImage('dynamic', 4 * BLOCK - 1024, BLOCK, (disk) =>
      put(disk, 3 * BLOCK, patterned(512, 3)),
    );
    const footer = whole.slice(-512);
    const bytes = Buffer.concat([whole.subarray(0, AT.firstData + BLOCK - 1024), footer]);
    const result = await changed(bytes);
    expect(await complaints(result)).toEqual([]);
    const { edit } = editBytes(bytes);
    const image = await edit();
    await image.resize(4 * BLOCK);
    expect((await shown(image)).subarray(-1024).equals(Buffer.alloc(1024))).toBe(true);
  });

  it('keeps what it has in reserved fields', async () => {
    const bytes = editFooters(await smallDynamic(), (footer) => footer.write('SIMH drive', 0x60, 'latin1'));
    const image = editBytes(bytes);
    const opened = await image.edit();
    await opened.resize(SMALL_SIZE + BLOCK);
    expect(bytesOf(image.disk).toString('latin1', 0x60, 0x6a)).toBe('SIMH drive');
  });

  it('that QEMU sizes by geometry becomes one whose size counts', async () => {
    const bytes = editFooters(await smallDynamic(), (footer) => footer.write('qemu', 28, 'latin1'));
    const { disk, edit } = editBytes(bytes);
    await (await edit()).resize(1024 * KiB);
    expect(decodeFooter(bytesOf(disk).subarray(0, 512)).creatorApplication).toBe('win ');
  });

  it('with a table larger than the disk forgets what stands behind the blocks', async () => {
    const bytes = editHeader(await smallDynamic(), (header) => header.writeUInt32BE(6, 28));
    bytes.writeUInt32BE(AT.firstBitmap / 512, AT.bat + 16);
    bytes.writeUInt32BE(0, AT.bat + 20);
    const { disk, edit } = editBytes(bytes);
    const image = await edit();
    const wanted = Buffer.concat([await shown(image), Buffer.alloc(2 * BLOCK)]);
    await image.resize(SMALL_SIZE + 2 * BLOCK);
    expect((await shown(image)).equals(wanted)).toBe(true);
    expect(await complaints(bytesOf(disk))).toEqual([]);
  });
});

const xapi = specimen('xapi.vhd');

describe.skipIf(!xapi)('an image of XenServer with a batmap', () => {
  it('stays one while nothing contradicts the batmap, and stops being one when its table grows', async () => {
    const { disk, edit } = editBytes(readFileSync(xapi ?? ''));
    const image = await edit();
    const before = await shown(image);
    await image.zero(0, 512);
    await image.flush();
    expect(decodeFooter(bytesOf(disk).subarray(0, 512)).creatorApplication).toBe('tap\0');
    await image.resize(image.virtualSize + 64 * 1024 * KiB * 1024);
    const wanted = Buffer.from(before);
    wanted.fill(0, 0, 512);
    expect(decodeFooter(bytesOf(disk).subarray(0, 512)).creatorApplication).toBe('win ');
    const out = Buffer.alloc(before.length);
    const { readDisk } = await import('../../../../src/formats/image-reader.js');
    await readDisk(image, out, 0);
    expect(out.equals(wanted)).toBe(true);
    expect(await complaints(bytesOf(disk))).toEqual([]);
  });
});

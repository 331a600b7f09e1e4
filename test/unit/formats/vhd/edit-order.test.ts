/**
 * Changes that meet before they are flushed: what one gave up, the other uses.
 */
import { describe, expect, it } from 'vitest';
import { bytesOf, complaints, editBytes, newImage, openInstant, shown } from './editing.js';
import { KiB, patterned, put } from './images.js';

const BLOCK = 16 * KiB;

async function three(type: 'dynamic' | 'differencing'): Promise<Uint8Array> {
  return newImage(type, 8 * BLOCK, BLOCK, async (disk) => {
    for (const block of [0, 1, 2]) await put(disk, block * BLOCK, patterned(BLOCK, block));
  });
}

describe('changes that meet before a flush', () => {
  it('sectors that were forgotten and written again keep what was written', async () => {
    const { disk, edit } = editBytes(await three('differencing'));
    const image = await edit();
    const wanted = await shown(image);
    expect(await image.discard(BLOCK, 8 * 512)).toBe(8 * 512);
    await put(image, BLOCK + 1024, patterned(512, 50));
    await image.discard(2 * BLOCK, 512);
    await image.zero(2 * BLOCK, 512);
    await image.flush();
    wanted.fill(0xee, BLOCK, BLOCK + 8 * 512);
    patterned(512, 50).copy(wanted, BLOCK + 1024);
    wanted.fill(0, 2 * BLOCK, 2 * BLOCK + 512);
    expect((await shown(image)).equals(wanted)).toBe(true);
    expect((await shown(await edit())).equals(wanted)).toBe(true);
    expect(await complaints(bytesOf(disk))).toEqual([]);
  });

  it('the place of a write that is not committed is not cut off with the blocks before it', async () => {
    const { disk, edit } = editBytes(await three('dynamic'));
    const image = await edit();
    const wanted = await shown(image);
    const write = await image.prepareWrite(5 * BLOCK, BLOCK);
    for (const place of write.places) await place.file.write(patterned(place.length, 5), place.fileOffset);
    await image.discard(BLOCK, 2 * BLOCK);
    await put(image, 7 * BLOCK, patterned(BLOCK, 7));
    await image.discard(7 * BLOCK, BLOCK);
    await image.flush();
    await put(image, 6 * BLOCK, patterned(BLOCK, 6));
    await write.commit();
    await image.flush();
    wanted.fill(0, BLOCK, 3 * BLOCK);
    patterned(BLOCK, 5).copy(wanted, 5 * BLOCK);
    patterned(BLOCK, 6).copy(wanted, 6 * BLOCK);
    expect((await shown(image)).equals(wanted)).toBe(true);
    expect((await shown(await edit())).equals(wanted)).toBe(true);
    expect((await complaints(bytesOf(disk))).filter((text) => !text.startsWith('VHD_UNUSED'))).toEqual([]);
  });

  it('a place that was given up is used again only when nothing names it any more', async () => {
    const { disk, edit } = editBytes(await three('dynamic'));
    const image = await edit();
    const before = await shown(image);
    await image.discard(0, BLOCK);
    await put(image, 4 * BLOCK, patterned(BLOCK, 40));
    await image.flush();
    await put(image, 5 * BLOCK, patterned(512, 41));
    await image.flush();
    const length = bytesOf(disk).length;
    expect((await shown(image)).subarray(5 * BLOCK + 512, 6 * BLOCK).equals(Buffer.alloc(BLOCK - 512))).toBe(
      true,
    );
    const known = [before.subarray(0, BLOCK), Buffer.alloc(BLOCK)];
    for (const instant of disk.states({ reorderings: 6 })) {
      const first = (await shown(await openInstant(instant))).subarray(0, BLOCK);
      for (let at = 0; at < BLOCK; at += 512) {
        const part = first.subarray(at, at + 512);
        const fine = known.some((content) => content.subarray(at, at + 512).equals(part));
        if (!fine) throw new Error(instant.label);
      }
    }
    await put(image, 6 * BLOCK, patterned(512, 42));
    await image.flush();
    // Three blocks were there, one went, three came: the first of them took its place.
    expect(bytesOf(disk).length).toBeGreaterThan(length);
    expect((await image.layout()).allocatedBlocks).toBe(5);
    expect(await complaints(bytesOf(disk))).toEqual([]);
  });

  it('the file ends with its last block again when the ones behind it are discarded', async () => {
    const bytes = await three('dynamic');
    const { disk, edit } = editBytes(bytes);
    const image = await edit();
    await put(image, 3 * BLOCK, patterned(5 * BLOCK, 3));
    await image.flush();
    expect(await image.discard(3 * BLOCK, 5 * BLOCK)).toBe(5 * (BLOCK + 512));
    await image.flush();
    expect(bytesOf(disk).equals(Buffer.from(bytes))).toBe(true);
  });

  it('a zeroed block of a child hides its parent, a discarded one shows it', async () => {
    const { edit } = editBytes(await three('differencing'));
    const image = await edit();
    await image.zero(0, BLOCK);
    await image.zero(4 * BLOCK, BLOCK);
    await image.discard(BLOCK, BLOCK);
    await image.flush();
    const content = await shown(await edit());
    expect(content.subarray(0, BLOCK).equals(Buffer.alloc(BLOCK))).toBe(true);
    expect(content.subarray(4 * BLOCK, 5 * BLOCK).equals(Buffer.alloc(BLOCK))).toBe(true);
    expect(content.subarray(BLOCK, 2 * BLOCK).equals(Buffer.alloc(BLOCK, 0xee))).toBe(true);
  });
});

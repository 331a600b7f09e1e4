import { describe, expect, it } from 'vitest';
import { GiB, MiB, TiB } from '../../../../src/base/bytes.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { editVhdx } from '../../../../src/formats/vhdx/edit.js';
import type { MemoryFile } from '../../../../src/io/memory-file.js';
import { access, contentOf, EditedDisk, keptOpen, newImage, PARENTS, put, reopened } from './edit-kit.js';

async function defects(file: MemoryFile): Promise<string[]> {
  const findings = await (await reopened(file)).check();
  return findings.filter(({ severity }) => severity !== 'note').map(({ code }) => code);
}

describe('resizing', () => {
  it.each(['dynamic', 'fixed', 'differencing'] as const)('grows and shrinks a %s image', async (type) => {
    const file = await newImage(type, 2 * MiB + 4096);
    const { image } = await EditedDisk.open(file);
    await put(image, 2 * MiB, Buffer.alloc(4096, 1));
    await put(image, 0, Buffer.alloc(512, 2));
    for (const size of [2 * MiB + 8192, 5 * MiB, 2 * MiB + 512, 4 * MiB, 4096, 3 * MiB]) {
      const before = await contentOf(image);
      await image.resize(size);
      expect(image.virtualSize).toBe(size);
      const content = await contentOf(image);
      expect((await contentOf(await reopened(file))).equals(content)).toBe(true);
      const kept = Math.min(size, before.length);
      expect(content.subarray(0, kept).equals(before.subarray(0, kept))).toBe(true);
      // Beyond a parent's end its child reads as zeros, whether it says so itself or not.
      const isZero = (byte: number): boolean => byte === 0 || (type === 'differencing' && byte === PARENTS);
      expect(content.subarray(kept).every(isZero)).toBe(true);
      if (size > 2 * MiB) await put(image, size - 512, Buffer.alloc(512, 4));
    }
    await image.close();
    expect(await defects(file)).toEqual([]);
    expect((await reopened(file)).virtualSize).toBe(3 * MiB);
  });

  it('moves a table that has become too small', async () => {
    const file = await newImage('dynamic', 100 * GiB);
    const image = await editVhdx(keptOpen(file), access);
    await put(image, 99 * GiB, Buffer.alloc(512, 7));
    await image.resize(300 * GiB);
    await put(image, 299 * GiB, Buffer.alloc(512, 8));
    await image.flush();
    await image.close();
    const again = await reopened(file);
    for (const [offset, value] of [
      [99 * GiB, 7],
      [299 * GiB, 8],
      [200 * GiB, 0],
    ] as const) {
      const bytes = Buffer.alloc(512);
      await readDisk(again, bytes, offset);
      expect(bytes.equals(Buffer.alloc(512, value))).toBe(true);
    }
    expect(await defects(file)).toEqual([]);
  });

  it('hides the parent in parts that come into view', async () => {
    const size = 2 * MiB + 512;
    for (const touch of [undefined, 2 * MiB]) {
      const file = await newImage('differencing', size);
      const image = await editVhdx(keptOpen(file), access);
      if (touch !== undefined) await put(image, touch, Buffer.alloc(512, 9));
      await image.resize(6 * MiB, { parentSize: 4 * MiB });
      await image.close();
      const content = await contentOf(await reopened(file));
      expect(content.subarray(size, 4 * MiB).every((byte) => byte === 0)).toBe(true);
      expect(content.subarray(4 * MiB).every((byte) => byte === PARENTS)).toBe(true);
      expect(content.subarray(0, 2 * MiB).every((byte) => byte === PARENTS)).toBe(true);
      expect(content[2 * MiB]).toBe(touch === undefined ? PARENTS : 9);
      expect(await defects(file)).toEqual([]);
    }
  });

  it('refuses sizes that are none', async () => {
    const image = await editVhdx(keptOpen(await newImage('dynamic', MiB)), access);
    for (const size of [0, -512, 511, 1.5]) {
      await expect(image.resize(size)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    await expect(image.resize(65 * TiB)).rejects.toMatchObject({ code: 'TARGET_TOO_SMALL' });
  });

  it('changes the id by which children know the image', async () => {
    const file = await newImage('dynamic', MiB);
    const nextLinkId = '11111111-2222-4333-8444-555555555556';
    const image = await editVhdx(keptOpen(file), { ...access, nextLinkId });
    expect(image.linkId).not.toBe(nextLinkId);
    await image.resize(2 * MiB);
    expect(image.linkId).toBe(nextLinkId);
    await image.close();
    expect((await reopened(file)).linkId).toBe(nextLinkId);
  });
});

describe('another parent', () => {
  const ids = ['aaaaaaaa-2222-4333-8444-555555555555', 'bbbbbbbb-2222-4333-8444-555555555555'] as const;

  it('is named, with one or two ids and paths of any length', async () => {
    const file = await newImage('differencing', MiB);
    const image = await editVhdx(keptOpen(file), access);
    const before = image.linkId;
    for (const name of ['p.vhdx', `${'long/'.repeat(300)}p.vhdx`, '../p.vhdx']) {
      for (const accepted of [[ids[0]] as const, ids]) {
        await image.setParent({
          ids: accepted,
          absolutePath: '/images/p.vhdx',
          relativePath: name,
          modified: 0,
        });
        const stored = name.replaceAll('/', '\\');
        const candidates = [
          { source: 'relative_path', path: stored.replace(/^(?!\.)/, '.\\') },
          { source: 'absolute_win32_path', path: '\\images\\p.vhdx' },
        ];
        expect(image.parentLink).toEqual({ acceptedIds: [...accepted], candidates });
        expect((await reopened(file)).parentLink).toEqual(image.parentLink);
      }
    }
    expect(image.linkId).toBe(before);
    await image.close();
    expect((await reopened(file)).linkId).toBe(before);
    expect(await defects(file)).toEqual([]);
  });

  it('is named on a drive or a share too', async () => {
    const image = await editVhdx(keptOpen(await newImage('differencing', MiB)), access);
    for (const [absolutePath, stored] of [
      ['C:\\images\\p.vhdx', '\\\\?\\C:\\images\\p.vhdx'],
      ['\\\\server\\share\\p.vhdx', '\\\\?\\UNC\\server\\share\\p.vhdx'],
    ] as const) {
      await image.setParent({ ids: [ids[0]], absolutePath, relativePath: undefined, modified: 0 });
      expect(image.parentLink?.candidates).toEqual([{ source: 'absolute_win32_path', path: stored }]);
    }
  });

  it('is refused when no path leads there', async () => {
    const image = await editVhdx(keptOpen(await newImage('differencing', MiB)), access);
    const link = { ids: [ids[0]] as const, absolutePath: '/a\\b', relativePath: 'a\\b', modified: 0 };
    await expect(image.setParent(link)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('is refused by an image that has none, or has no room', async () => {
    const link = { ids: [ids[0]] as const, absolutePath: '/x', relativePath: 'x', modified: 0 };
    const dynamic = await editVhdx(keptOpen(await newImage('dynamic', MiB)), access);
    await expect(dynamic.setParent(link)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('the type', () => {
  it('changes to fixed and back without changing the disk', async () => {
    const file = await newImage('dynamic', 4 * MiB + 512);
    const image = await editVhdx(keptOpen(file), access);
    await put(image, MiB, Buffer.alloc(1024, 3));
    await image.flush();
    const content = await contentOf(image);
    const { linkId } = image;
    await image.setType('fixed');
    expect(image.type).toBe('fixed');
    expect(await image.layout()).toMatchObject({ allocatedBlocks: 5, totalBlocks: 5 });
    await image.setType('dynamic');
    await image.zero(3 * MiB, MiB);
    await image.flush();
    expect(await image.layout()).toMatchObject({ allocatedBlocks: 4 });
    expect((await contentOf(image)).equals(content)).toBe(true);
    expect(image.linkId).toBe(linkId);
    await image.close();
    expect((await reopened(file)).type).toBe('dynamic');
    expect((await contentOf(await reopened(file))).equals(content)).toBe(true);
  });

  it('is not for differencing images', async () => {
    const image = await editVhdx(keptOpen(await newImage('differencing', MiB)), access);
    await expect(image.setType('fixed')).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

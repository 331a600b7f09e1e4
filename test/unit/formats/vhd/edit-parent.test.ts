import { describe, expect, it } from 'vitest';
import type { DiskImage, ParentLink } from '../../../../src/formats/disk-image.js';
import type { NewParentLink } from '../../../../src/formats/editable-image.js';
import { decodeHeader } from '../../../../src/formats/vhd/dynamic-header.js';
import { bytesOf, complaints, editBytes, linkTo, newImage, openInstant, shown } from './editing.js';
import { KiB, patterned, put, smallChild } from './images.js';

const BLOCK = 8 * KiB;

function child(link: NewParentLink): Promise<Uint8Array> {
  return newImage(
    'differencing',
    20 * BLOCK,
    BLOCK,
    async (disk) => {
      for (const at of [3, 0, 5]) await put(disk, at * BLOCK + 512, patterned(1024, at));
    },
    link,
  );
}

function textOf(link: ParentLink | undefined): string {
  return JSON.stringify(link);
}

const folder = `/${'long-folder-name/'.repeat(12)}images`;
const first = linkTo('parent.vhd');
const links: [string, NewParentLink][] = [
  ['the same path, another id', { ...first, ids: linkTo('parent.vhd', '/images', 9).ids }],
  ['another name', linkTo('other.vhd')],
  ['a longer path', linkTo('other.vhd', folder)],
  [
    'a path of Windows',
    { ...first, absolutePath: 'D:\\disks\\parent.vhd', relativePath: '..\\disks\\parent.vhd' },
  ],
  ['no relative path', { ...linkTo('x.vhd'), relativePath: undefined, absolutePath: 'E:\\x.vhd' }],
  ['a path of 4000 characters', linkTo(`${'ä'.repeat(200)}.vhd`, `/${'verylong/'.repeat(420)}x`)],
];

describe('another parent', () => {
  it.each(links)('%s: the old or the new one after a crash at any instant', async (_name, link) => {
    const { disk, edit } = editBytes(await child(first));
    const image = await edit();
    const content = await shown(image);
    const before = textOf(image.parentLink);
    await image.setParent(link);
    const after = textOf(image.parentLink);
    expect(after).not.toBe(before);
    expect(image.parentLink?.acceptedIds).toEqual([link.ids[0]]);
    await image.close();

    const bytes = bytesOf(disk);
    expect(bytes.subarray(0, 512).equals(bytes.subarray(bytes.length - 512))).toBe(true);
    expect(bytes.readBigUInt64BE(16)).toBe(512n);
    expect(await complaints(bytes)).toEqual([]);
    const table = Number(decodeHeader(bytes.subarray(512)).tableOffset);
    const firstBitmap = Math.min(...[0, 3, 5].map((block) => bytes.readUInt32BE(table + block * 4))) * 512;
    for (const { dataOffset } of decodeHeader(bytes.subarray(512)).locators) {
      expect(Number(dataOffset)).toBeLessThan(firstBitmap);
    }
    for (const instant of disk.states({ reorderings: 4 })) {
      const found: DiskImage = await openInstant(instant);
      expect([before, after], instant.label).toContain(textOf(found.parentLink));
      if (!(await shown(found)).equals(content)) throw new Error(instant.label);
    }
  });

  it('takes one write of a sector when only id or time change', async () => {
    const bytes = await child(first);
    const { disk, edit } = editBytes(bytes);
    const image = await edit();
    await image.setParent({ ...first, modified: first.modified + 5000 });
    expect(disk.count).toBe(3); // A flush for what could wait, the sector, its flush.
    const changed = bytesOf(disk);
    expect(decodeHeader(changed.subarray(512)).parentTimestamp).toBe(1.6e9 + 5 - 946_684_800);
    changed.set(bytes.subarray(512, 1024), 512);
    expect(changed.equals(bytes)).toBe(true);
  });

  it('leaves the file as long as it was', async () => {
    const bytes = await child(first);
    const { disk, edit } = editBytes(bytes);
    const image = await edit();
    for (const [, link] of links.slice(0, 4)) await image.setParent(link);
    await image.close();
    expect(bytesOf(disk).length).toBe(bytes.length);
  });

  it('moves blocks out of the way of a path that has no room', async () => {
    const { disk, edit } = editBytes(smallChild());
    const image = await edit();
    const content = await shown(image);
    await image.setParent(linkTo('other.vhd', folder));
    await image.close();
    const bytes = bytesOf(disk);
    expect(await complaints(bytes)).toEqual([]);
    for (const instant of disk.states()) {
      if (!(await shown(await openInstant(instant))).equals(content)) throw new Error(instant.label);
    }
    const again = await edit();
    expect(again.parentLink?.candidates[0]?.path).toContain('long-folder-name');
  });

  it('starts over from every state that a crash left', async () => {
    const { disk, edit } = editBytes(await child(first));
    const image = await edit();
    const content = await shown(image);
    await image.setParent(linkTo('second.vhd', folder));
    await image.close();
    for (const instant of disk.states()) {
      const next = editBytes(instant.state.get('disk.vhd') ?? new Uint8Array(0));
      const taken = await next.edit();
      await taken.setParent(linkTo('third.vhd'));
      await put(taken, 7 * BLOCK, patterned(BLOCK, 70));
      await taken.flush();
      await taken.close();
      const bytes = bytesOf(next.disk);
      const end = await next.edit();
      expect(end.parentLink?.candidates[0]?.path, instant.label).toBe('.\\third.vhd');
      expect(bytes.readBigUInt64BE(16), instant.label).toBe(512n);
      const wanted = Buffer.from(content);
      patterned(BLOCK, 70).copy(wanted, 7 * BLOCK);
      expect((await shown(end)).equals(wanted)).toBe(true);
      expect(await complaints(bytes), instant.label).toEqual([]);
    }
  });

  it('is refused for disks that have none', async () => {
    for (const type of ['fixed', 'dynamic'] as const) {
      const image = await editBytes(await newImage(type, 4 * BLOCK, BLOCK)).edit();
      await expect(image.setParent(first)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    }
  });
});

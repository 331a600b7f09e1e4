import { describe, expect, it } from 'vitest';
import { decodeHeader } from '../../../../src/formats/vhd/dynamic-header.js';
import { decodeFooter } from '../../../../src/formats/vhd/footer.js';
import { geometryOf } from '../../../../src/formats/vhd/geometry.js';
import { bytesOf, complaints, editBytes, newImage, openInstant, shown } from './editing.js';
import { KiB, patterned, put } from './images.js';

const BLOCK = 4 * KiB;

/** Some blocks, out of order, the last one ending within a block. */
async function image(type: 'fixed' | 'dynamic' | 'differencing', size: number): Promise<Uint8Array> {
  return newImage(type, size, BLOCK, async (disk) => {
    for (const at of [3, 0, 5]) await put(disk, at * BLOCK, patterned(BLOCK, at));
    await put(disk, size - 1024, patterned(1024, 99));
  });
}

interface Case {
  name: string;
  type: 'fixed' | 'dynamic' | 'differencing';
  from: number;
  to: number;
  parentSize?: number;
}

const cases: Case[] = [
  { name: 'fixed, larger', type: 'fixed', from: 80 * KiB, to: 120 * KiB },
  { name: 'fixed, larger by a sector', type: 'fixed', from: 80 * KiB, to: 80 * KiB + 512 },
  { name: 'fixed, smaller', type: 'fixed', from: 80 * KiB, to: 64 * KiB },
  { name: 'fixed, smaller by a sector', type: 'fixed', from: 80 * KiB, to: 80 * KiB - 512 },
  { name: 'dynamic, larger within the table', type: 'dynamic', from: 10 * BLOCK + 1024, to: 20 * BLOCK },
  { name: 'dynamic, over the first blocks', type: 'dynamic', from: 10 * BLOCK + 1024, to: 2200 * BLOCK },
  { name: 'dynamic, smaller', type: 'dynamic', from: 10 * BLOCK + 1024, to: 4 * BLOCK - 512 },
  { name: 'dynamic, smaller within a block', type: 'dynamic', from: 10 * BLOCK, to: 10 * BLOCK - 512 },
  { name: 'differencing, larger', type: 'differencing', from: 10 * BLOCK + 1024, to: 20 * BLOCK },
  {
    name: 'differencing, over a larger parent',
    type: 'differencing',
    from: 10 * BLOCK + 1024,
    to: 20 * BLOCK,
    parentSize: 13 * BLOCK + 512,
  },
  { name: 'differencing, over locators', type: 'differencing', from: 10 * BLOCK + 1024, to: 2000 * BLOCK },
  { name: 'differencing, smaller', type: 'differencing', from: 10 * BLOCK + 1024, to: 5 * BLOCK + 512 },
];

/** What the resized disk has to show; 0xee is the parent. */
function expected(old: Buffer, { type, to, parentSize = 0 }: Case): Buffer {
  const content = Buffer.alloc(to, type === 'differencing' ? 0xee : 0);
  old.copy(content, 0, 0, Math.min(to, old.length));
  if (to > old.length) {
    // The block in which the old disk ended: what was behind its end is the parent's.
    content.fill(0, old.length, Math.min(to, Math.max(old.length, parentSize)));
  }
  return content;
}

describe('VHDs of another size', () => {
  it.each(cases)(
    '$name: content, structures, and the size again after a crash at any instant',
    async (each) => {
      const { disk, edit } = editBytes(await image(each.type, each.from));
      const disk1 = await edit();
      const before = await shown(disk1);
      const wanted = expected(before, each);
      disk.start();
      await disk1.resize(each.to, each.parentSize === undefined ? {} : { parentSize: each.parentSize });
      expect(disk1.virtualSize).toBe(each.to);
      expect((await shown(disk1)).equals(wanted)).toBe(true);
      await put(disk1, each.to - 512, patterned(512, 7));
      patterned(512, 7).copy(wanted, each.to - 512);
      await disk1.flush();
      await disk1.close();

      const bytes = bytesOf(disk);
      const again = await edit();
      expect((await shown(again)).equals(wanted)).toBe(true);
      expect(await complaints(bytes)).toEqual([]);
      const footer = decodeFooter(bytes.subarray(bytes.length - 512));
      expect(footer.currentSize).toBe(BigInt(each.to));
      expect(footer.originalSize).toBe(BigInt(each.to));
      expect(footer.geometry).toEqual(geometryOf(each.to));
      if (each.type === 'fixed') expect(bytes.length).toBe(each.to + 512);
      else {
        expect(bytes.subarray(0, 512).equals(bytes.subarray(bytes.length - 512))).toBe(true);
        expect(decodeHeader(bytes.subarray(512)).maxTableEntries).toBe(Math.ceil(each.to / BLOCK));
      }

      const every = Math.ceil(disk.count / 150);
      for (const instant of disk.states({ every, seed: each.to, reorderings: 4 })) {
        const found = await openInstant(instant);
        const content = await shown(found);
        expect([each.from, each.to], instant.label).toContain(found.virtualSize);
        if (found.virtualSize === each.from && !content.equals(before))
          throw new Error(`old ${instant.label}`);
        const kept = Math.min(each.from, each.to) - 512;
        if (!content.subarray(0, kept).equals(before.subarray(0, kept))) throw new Error(instant.label);
        if (found.virtualSize !== each.to || each.to < each.from) continue;
        const rest = [content, wanted].map((part) => part.subarray(each.from, each.to - 512));
        if (!rest[0]?.equals(rest[1] ?? Buffer.alloc(0))) throw new Error(`new part ${instant.label}`);
      }
    },
  );

  it.each(['fixed', 'dynamic', 'differencing'] as const)(
    '%s, smaller and larger again: what was cut off does not come back',
    async (type) => {
      const { disk, edit } = editBytes(await image(type, 10 * BLOCK));
      const first = await edit();
      const wanted = await shown(first);
      await first.resize(3 * BLOCK + 512);
      await first.close();
      wanted.fill(0, 3 * BLOCK + 512);
      disk.start();
      const second = await edit();
      await second.resize(10 * BLOCK, { parentSize: 10 * BLOCK });
      expect((await shown(second)).equals(wanted)).toBe(true);
      await second.close();
      expect(await complaints(bytesOf(disk))).toEqual([]);
      for (const instant of disk.states()) {
        const found = await openInstant(instant);
        const part = wanted.subarray(0, found.virtualSize);
        if (!(await shown(found)).equals(part)) throw new Error(instant.label);
      }
    },
  );
});

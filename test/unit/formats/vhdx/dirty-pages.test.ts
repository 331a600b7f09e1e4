/** Pages of tables that are being changed, while others are read. */
import { expect, it } from 'vitest';
import { DirtyPages } from '../../../../src/formats/vhdx/dirty-pages.js';
import { PAGE_LENGTH } from '../../../../src/formats/vhdx/page-cache.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import type { RandomAccessFile } from '../../../../src/io/random-access-file.js';
import { overriding } from '../../../support/overriding.js';

it('a change is kept when many other pages are read while its storage is reserved', async () => {
  const count = 200;
  const reserved: [number, number][] = [];
  const file = overriding<RandomAccessFile>(new MemoryFile(new Uint8Array(count * PAGE_LENGTH)), {
    allocate: async (offset, length) => {
      reserved.push([offset, length]);
      for (let page = 1; page < count; page += 1) await pages.load(page * PAGE_LENGTH);
    },
  });
  const pages = new DirtyPages(file, 10, async () => undefined);
  await pages.reserve(1);
  await pages.change(5000, 8, (bytes) => bytes.fill(7));
  expect(pages.updates().map(({ offset }) => offset)).toEqual([4096]);
  expect(await pages.read(5000, 1)).toEqual(Uint8Array.of(7));
  await pages.change(5008, 8, (bytes) => bytes.fill(8));
  expect(reserved).toEqual([[4096, 4096]]);
});

/**
 * defrag is interrupted at every instant: the disk shows what it showed, the tables are sound, and running
 * it on what was left finishes.
 */
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../src/base/random.js';
import { editImage } from '../../src/formats/registry.js';
import { defrag } from '../../src/operations/defrag.js';
import { CrashDisk } from '../support/crash-disk.js';
import {
  crashDiskWith,
  errorsOf,
  hostOn,
  IMAGE,
  type ImageKind,
  KINDS,
  kindName,
  MiB,
  shownBy,
} from '../support/resize-kit.js';
import { seededBytes } from '../support/sample-disk.js';

const BLOCKS = 9;
/** The order in which blocks were first written: cycles, one that stays, and gaps of what was given back. */
const ORDER = [3, 1, 7, 5, 0, 8, 2, 4];
const GONE = [7, 4];

/** An image whose blocks lie in another order than on the disk. */
async function scattered(kind: ImageKind): Promise<{ disk: CrashDisk; content: Buffer }> {
  const blockSize = kind.blockSize ?? MiB;
  const empty = await crashDiskWith(kind, Buffer.alloc(BLOCKS * blockSize - 64 * 1024));
  const before = (await shownBy(empty.files(), kind.format)).content;
  const access = { clock: { now: () => 1.7e12 }, random: systemRandom };
  const file = await empty.fileSystem().open(IMAGE, { writable: true });
  const image = await editImage(file, access, { format: kind.format });
  const piece = 8192;
  const write = async (block: number): Promise<void> => {
    const offset = block * blockSize + 4096;
    const bytes = seededBytes(piece, block + 1);
    const { places, commit } = await image.prepareWrite(offset, piece);
    for (const place of places)
      await place.file.write(
        bytes.subarray(place.offset - offset, place.offset - offset + place.length),
        place.fileOffset,
      );
    await commit();
    bytes.copy(before, offset);
  };
  for (const block of ORDER) await write(block);
  await image.flush();
  await image.close();
  const disk = new CrashDisk(empty.files());
  const host = hostOn(disk);
  const again = await editImage(await host.fileSystem.open(IMAGE, { writable: true }), access, {
    format: kind.format,
  });
  for (const block of GONE)
    await again.discard(block * blockSize, Math.min(blockSize, before.length - block * blockSize));
  await again.flush();
  await again.close();
  return { disk, content: (await shownBy(disk.files(), kind.format)).content };
}

const SUBJECTS = KINDS.filter(({ format, type }) => format !== 'raw' && type !== 'fixed');

describe('defrag that is interrupted', () => {
  it.each(SUBJECTS.map((kind) => ({ kind, name: kindName(kind) })))('$name', async ({ kind }) => {
    const { disk, content } = await scattered(kind);
    const { format } = kind;
    disk.start();
    const done = await defrag(hostOn(disk), { path: IMAGE, format });
    disk.stop();
    expect(done.before.fragmentation.percent).toBeGreaterThan(50);
    expect(done.after.fragmentation).toEqual({ percent: 0, extents: 1 });
    expect(done.after.fileSize).toBeLessThanOrEqual(done.before.fileSize);
    const every = Math.max(1, Math.floor(disk.count / 24));
    let count = 0;
    for (const { state, label } of disk.states({ every, reorderings: 1 })) {
      const shown = await shownBy(state, format);
      if (!shown.content.equals(content)) throw new Error(`${label}: the disk shows something else`);
      const errors = await errorsOf(state, format);
      if (errors.length > 0) throw new Error(`${label}: ${errors.join(', ')}`);
      count += 1;
      if (count % 8 !== 0) continue;
      const again = new CrashDisk(state);
      const finished = await defrag(hostOn(again), { path: IMAGE, format });
      expect(finished.after.fragmentation.percent).toBe(0);
      expect((await shownBy(again.files(), format)).content.equals(content)).toBe(true);
    }
  });
});

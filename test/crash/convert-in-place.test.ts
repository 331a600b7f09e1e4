/**
 * `convert --in-place` at every instant at which a machine could stop: the image opens, shows exactly what it
 * showed, and children would know it. Running it again after a crash finishes.
 */
import { describe, expect, it } from 'vitest';
import { convertInPlace } from '../../src/operations/convert-in-place.js';
import { CrashDisk } from '../support/crash-disk.js';
import {
  crashDiskWith,
  errorsOf,
  hostOn,
  IMAGE,
  type ImageKind,
  kindName,
  MiB,
  shownBy,
} from '../support/resize-kit.js';
import { numbered } from '../unit/guestfs/disks.js';

const KINDS: readonly ImageKind[] = [
  { format: 'raw', type: 'fixed' },
  { format: 'vhdx', type: 'fixed', blockSize: MiB },
  { format: 'vhdx', type: 'dynamic', blockSize: MiB },
  { format: 'vhdx', type: 'dynamic', blockSize: 2 * MiB, sectorSize: 4096 },
  { format: 'vhd', type: 'fixed' },
  { format: 'vhd', type: 'dynamic', blockSize: 256 * 1024 },
];

/** Blocks of numbers, of zeros, and of both; the last one is short. */
function content(): Buffer {
  const disk = numbered(4.5 * MiB);
  return disk.fill(0, MiB, 2 * MiB).fill(0, 3.25 * MiB, 4.25 * MiB);
}

const cases = KINDS.flatMap((kind) =>
  (['fixed', 'dynamic'] as const)
    // The other layout of a VHD is another file: not in the hands of this test.
    .filter((type) => kind.format !== 'vhd' || kind.type === type)
    .map((type) => ({ kind, type, name: `a ${kindName(kind)} image to ${type}` })),
);

describe('a crash while an image is converted in place', () => {
  it.each(cases)('$name', async ({ kind, type }) => {
    const { format } = kind;
    const shown = content();
    const files = await crashDiskWith(kind, shown);
    const { linkId } = await shownBy(files.files(), format);
    files.start();
    const result = await convertInPlace(hostOn(files), { path: IMAGE, type });
    files.stop();
    expect(result).toMatchObject({ format, type, means: 'sameFile', virtualSize: shown.length });
    const middle: Map<string, Uint8Array>[] = [];
    for (const { state, label } of files.states({ reorderings: 2, every: Math.ceil(files.count / 24) })) {
      const now = await shownBy(state, format);
      expect(now.content.equals(shown), label).toBe(true);
      expect(now.linkId, label).toBe(linkId);
      middle.push(state);
    }
    const half = middle[Math.floor(middle.length / 2)] ?? files.files();
    for (const last of [files.files(), half]) {
      const again = new CrashDisk(last);
      await convertInPlace(hostOn(again), { path: IMAGE, type });
      const end = await shownBy(again.files(), format);
      expect(end.type).toBe(format === 'raw' ? 'fixed' : type);
      expect(end.content.equals(shown)).toBe(true);
      expect(await errorsOf(again.files(), format)).toEqual([]);
    }
  });
});

/**
 * `resize` at every instant at which a machine could stop: the image opens, has its old or its new size, shows
 * what it showed, and the GPT has a sound copy with the partitions as they were.
 */
import { describe, expect, it } from 'vitest';
import { resize } from '../../src/operations/resize.js';
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
  tableWithoutPrimary,
} from '../support/resize-kit.js';
import { gptDisk } from '../unit/guestfs/disks.js';

const OLD = 5 * MiB;
const PARTITIONS = [
  { offset: MiB, length: MiB, name: 'boot' },
  { offset: 2 * MiB, length: MiB, name: 'data' },
];

/** 5 MiB with two partitions, nothing in the half of the second. */
function disk(kind: ImageKind): Buffer {
  const content = gptDisk({ sectorSize: kind.sectorSize ?? 512, size: OLD, partitions: PARTITIONS });
  return content.fill(0, 2.5 * MiB, 4.5 * MiB);
}

const PARTITIONED = { kind: 'gpt', valid: { partitions: [{ name: 'boot' }, { name: 'data' }] } };

/** Where no table is before, meanwhile or after. */
const KEPT: readonly [number, number][] = [[0.5 * MiB, 3.5 * MiB]];

const cases = KINDS.flatMap((kind) =>
  [
    { verb: 'grows', size: 8 * MiB },
    { verb: 'shrinks', size: 4 * MiB },
  ].map((change) => ({ kind, ...change, name: `a ${kindName(kind)} image that ${change.verb}` })),
);

describe('a crash while the image is resized', () => {
  it.each(cases)('$name', async ({ kind, size }) => {
    const { format, sectorSize = 512 } = kind;
    const content = disk(kind);
    const files = await crashDiskWith(kind, content, 6 * MiB);
    files.start();
    const result = await resize(hostOn(files), { path: IMAGE, size: { to: size }, moveGpt: true });
    files.stop();
    expect(result).toMatchObject({ oldSize: OLD, virtualSize: size, gptBackup: 'moved', lost: [] });
    let sizes = new Set<number>();
    for (const { state, label } of files.states({ reorderings: 1, every: Math.ceil(files.count / 24) })) {
      const shown = await shownBy(state, format);
      sizes = sizes.add(shown.content.length);
      expect([OLD, size], label).toContain(shown.content.length);
      for (const [start, end] of KEPT) {
        const same = shown.content.subarray(start, end).equals(content.subarray(start, end));
        expect(same, `${label}: content changed`).toBe(true);
      }
      expect(shown.table, label).toMatchObject(PARTITIONED);
      // A header that is being written counts as lost: its copy must be complete by then.
      const header = (bytes: Buffer): Buffer => bytes.subarray(sectorSize, sectorSize + 512);
      if (header(shown.content).equals(header(content))) continue;
      expect(await tableWithoutPrimary(shown.content, sectorSize), label).toMatchObject(PARTITIONED);
    }
    expect(sizes.size).toBe(2);
    const after = await shownBy(files.files(), format);
    expect(after.content.length).toBe(size);
    expect(after.table).toMatchObject({ kind: 'gpt', defects: [] });
    if (size > OLD)
      expect(after.content.subarray(OLD, size - 64 * 1024).every((byte) => byte === 0)).toBe(true);
    expect(await errorsOf(files.files(), format)).toEqual([]);
  });
});

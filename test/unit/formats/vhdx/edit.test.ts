import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { changes, contentOf, EditedDisk, newImage, reopened } from './edit-kit.js';

const kinds = [
  ['dynamic', 512],
  ['dynamic', 4096],
  ['fixed', 512],
  ['differencing', 512],
  ['differencing', 4096],
] as const;

describe.each(kinds)('an editable %s image with sectors of %d', (type, sector) => {
  const size = 3 * MiB + 5 * 4096;

  it('shows any sequence of changes, at once and when opened again', async () => {
    await fc.assert(
      fc.asyncProperty(changes(size / sector, 12), async (list) => {
        const disk = await EditedDisk.open(await newImage(type, size, sector));
        for (const change of list) {
          await disk.apply(change);
          expect((await contentOf(disk.image)).equals(disk.model)).toBe(true);
        }
        await disk.image.flush();
        expect((await contentOf(await reopened(disk.file))).equals(disk.model)).toBe(true);
        await disk.image.close();
        const again = await reopened(disk.file);
        expect(again.log).toBe('clean');
        expect((await contentOf(again)).equals(disk.model)).toBe(true);
        const findings = (await again.check()).filter(({ severity }) => severity !== 'note');
        expect(findings.filter(({ code }) => code !== 'VHDX_UNUSED_SPACE')).toEqual([]);
      }),
      { numRuns: 10 },
    );
  });

  it('writes nothing before the first change', async () => {
    const file = await newImage(type, size, sector);
    const before = Buffer.from(file.bytes());
    const disk = await EditedDisk.open(file);
    await disk.image.flush();
    await disk.image.close();
    expect(before.equals(Buffer.from(file.bytes()))).toBe(true);
  });
});

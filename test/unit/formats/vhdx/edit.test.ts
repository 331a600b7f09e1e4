import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { systemRandom } from '../../../../src/base/random.js';
import type { CreateImageOptions } from '../../../../src/formats/disk-image.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { changes, contentOf, EditedDisk, keptOpen, reopened } from './edit-kit.js';

const PARENT = {
  ids: ['ab12cabe-e6b2-4345-93ef-c309e000c746'] as const,
  absolutePath: '/images/parent.vhdx',
  relativePath: 'parent.vhdx',
  modified: 0,
  diskId: '01234567-89ab-4cde-8f01-23456789abcd',
};

async function newImage(
  type: CreateImageOptions['type'],
  virtualSize: number,
  logicalSectorSize: 512 | 4096 = 512,
): Promise<MemoryFile> {
  const file = new MemoryFile();
  const image = await vhdxDriver.create(keptOpen(file), {
    type,
    virtualSize,
    logicalSectorSize,
    blockSize: MiB,
    clock: { now: () => 0 },
    random: systemRandom,
    ...(type === 'differencing' ? { parent: PARENT } : {}),
  });
  await image.flush();
  await image.close();
  return file;
}

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
      { numRuns: 20 },
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

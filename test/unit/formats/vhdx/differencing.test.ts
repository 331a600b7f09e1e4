import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GiB, MiB } from '../../../../src/base/bytes.js';
import { type Extent, walkExtents } from '../../../../src/block/extent.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { nodeFileSystem } from '../../../../src/io/node-file-system.js';
import { specimen } from '../../../support/specimens.js';
import { type BlockDescription, type BuiltVhdx, buildVhdx } from '../../../support/vhdx-builder.js';

const PARENT = { linkage: 'ab12cabe-e6b2-2345-93ef-c309e000c746', relativePath: '.\\parent.vhdx' };

async function open(built: BuiltVhdx) {
  return vhdxDriver.open(built.file, {});
}

/** `state@offset+length[:fileOffset]` for each extent. */
function text(extents: readonly Extent[]): string[] {
  return extents.map((extent) => {
    const place = extent.state === 'data' ? `:${extent.fileOffset}` : '';
    return `${extent.state}@${extent.offset}+${extent.length}${place}`;
  });
}

describe('states of blocks', () => {
  const states = (parent: boolean): BlockDescription[] =>
    [0, 1, 2, 3, 5, 6].map((state, index) => ({
      index,
      state,
      ...(state === 6 ? { data: [{ offset: 0, bytes: Uint8Array.of(1) }] } : {}),
      ...(parent && state === 6 ? { present: [] } : {}),
    }));

  it('in a dynamic image: all but fully present are zeros', async () => {
    const built = await buildVhdx({ virtualSize: 6 * MiB, blocks: states(false) });
    const image = await open(built);
    expect(image.type).toBe('dynamic');
    const place = built.places.payload.get(5);
    expect(text(await image.locate(0, 6 * MiB))).toEqual([
      `zero@0+${5 * MiB}`,
      `data@${5 * MiB}+${MiB}:${place}`,
    ]);
  });

  it('in a differencing image: only not present asks the parent, and fully present never a bitmap', async () => {
    const built = await buildVhdx({ virtualSize: 6 * MiB, parent: PARENT, blocks: states(true) });
    expect(built.places.bitmaps.size).toBe(0);
    const image = await open(built);
    expect(image.type).toBe('differencing');
    const place = built.places.payload.get(5);
    expect(text(await image.locate(0, 6 * MiB))).toEqual([
      `absent@0+${MiB}`,
      `zero@${MiB}+${4 * MiB}`,
      `data@${5 * MiB}+${MiB}:${place}`,
    ]);
  });

  it('partially present: runs of sectors', async () => {
    const built = await buildVhdx({
      virtualSize: 2 * MiB,
      parent: PARENT,
      blocks: [
        {
          index: 1,
          present: [
            [0, 2],
            [7, 9],
            [2047, 2048],
          ],
        },
      ],
    });
    const image = await open(built);
    const place = built.places.payload.get(1) ?? 0;
    expect(text(await image.locate(0, 2 * MiB))).toEqual([
      `absent@0+${MiB}`,
      `data@${MiB}+1024:${place}`,
      `absent@${MiB + 1024}+${5 * 512}`,
      `data@${MiB + 7 * 512}+1024:${place + 7 * 512}`,
      `absent@${MiB + 9 * 512}+${2038 * 512}`,
      `data@${2 * MiB - 512}+512:${place + MiB - 512}`,
    ]);
    expect(text(await image.locate(MiB + 700, 1000))).toEqual([
      `data@${MiB + 700}+324:${place + 700}`,
      `absent@${MiB + 1024}+676`,
    ]);
  });

  it('says which parents are accepted and where they may be', async () => {
    const linkage2 = '00112233-4455-6677-8899-aabbccddeeff';
    const image = await open(await buildVhdx({ virtualSize: MiB, parent: { ...PARENT, linkage2 } }));
    expect(image.parentLink).toEqual({
      acceptedIds: [PARENT.linkage, linkage2],
      candidates: [{ source: 'relative_path', path: '.\\parent.vhdx' }],
    });
  });
});

describe('sector bitmaps', () => {
  it.each([512, 4096] as const)('belong to their chunk (sectors of %d bytes)', async (sectorSize) => {
    const blockSize = 32 * MiB;
    const ratio = (2 ** 23 * sectorSize) / blockSize;
    const described = [0, 1, ratio - 1, ratio, ratio + 3, 2 * ratio + 1];
    const built = await buildVhdx({
      virtualSize: (2 * ratio + 2) * blockSize,
      blockSize,
      logicalSectorSize: sectorSize,
      parent: PARENT,
      blocks: described.map((index, order) => ({ index, present: [[order, order + 1]] as const })),
    });
    expect(built.places.bitmaps.size).toBe(3);
    const image = await open(built);
    const data: string[] = [];
    for await (const extent of walkExtents<Extent>(image, { offset: 0, length: image.virtualSize })) {
      if (extent.state === 'data') data.push(...text([extent]));
      else expect(extent.state).toBe('absent');
    }
    expect(data).toEqual(
      described.map((index, order) => {
        const inBlock = order * sectorSize;
        const place = (built.places.payload.get(index) ?? 0) + inBlock;
        return `data@${index * blockSize + inBlock}+${sectorSize}:${place}`;
      }),
    );
  });

  it('agree with a model for any pattern and any range', async () => {
    const sectors = 2048;
    const runs = fc.array(fc.tuple(fc.nat(sectors - 1), fc.integer({ min: 1, max: 300 })), { maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(runs, fc.nat(MiB - 1), fc.nat(MiB - 1), async (marked, a, b) => {
        const model = new Uint8Array(sectors);
        const present = marked.map(([from, length]) => [from, Math.min(sectors, from + length)] as const);
        for (const [from, to] of present) model.fill(1, from, to);
        const image = await open(
          await buildVhdx({ virtualSize: 3 * MiB, parent: PARENT, blocks: [{ index: 2, present }] }),
        );
        const start = 2 * MiB + Math.min(a, b);
        const end = 2 * MiB + Math.max(a, b) + 1;
        const seen = new Uint8Array(sectors).fill(2);
        let at = start;
        for (const extent of await image.locate(start, end - start)) {
          expect(extent.offset).toBe(at);
          at += extent.length;
          const from = Math.floor((extent.offset - 2 * MiB) / 512);
          const to = Math.ceil((extent.offset + extent.length - 2 * MiB) / 512);
          seen.fill(extent.state === 'data' ? 1 : 0, from, to);
        }
        expect(at).toBe(end);
        const [first, last] = [Math.floor((start - 2 * MiB) / 512), Math.ceil((end - 2 * MiB) / 512)];
        expect(Buffer.compare(seen.subarray(first, last), model.subarray(first, last))).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});

describe('the end of the file', () => {
  it('may cut the last block short: what is missing is zeros, and check says so', async () => {
    const built = await buildVhdx({
      virtualSize: 2 * MiB,
      blocks: [{ index: 0, data: [{ offset: 0, bytes: new Uint8Array(MiB).fill(7) }] }],
    });
    const place = built.places.payload.get(0) ?? 0;
    await built.file.truncate(place + 1000);
    const image = await open(built);
    expect(text(await image.locate(0, 2 * MiB))).toEqual([
      `data@0+1000:${place}`,
      `zero@1000+${2 * MiB - 1000}`,
    ]);
    const bytes = new Uint8Array(MiB);
    await readDisk(image, bytes, 0);
    expect([bytes[999], bytes[1000], bytes[MiB - 1]]).toEqual([7, 0, 0]);
    expect(await image.check()).toMatchObject([{ code: 'VHDX_BLOCK_CUT_SHORT', severity: 'warning' }]);
  });

  it('may have a ragged tail', async () => {
    const built = await buildVhdx({ virtualSize: MiB });
    await built.file.truncate(built.file.size() + 512);
    expect(await (await open(built)).check()).toEqual([]);
  });
});

describe('huge sparse disks', () => {
  it('2 TiB in blocks of 1 MiB are located in about a second, all windows together', async () => {
    const virtualSize = 2048 * GiB;
    const last = virtualSize / MiB - 1;
    const data = [{ offset: 0, bytes: Uint8Array.of(1) }];
    const built = await buildVhdx({
      virtualSize,
      blocks: [
        { index: 1000, data },
        { index: last, data },
      ],
    });
    const image = await open(built);
    const started = performance.now();
    const found: number[] = [];
    for await (const extent of walkExtents<Extent>(image, { offset: 0, length: virtualSize })) {
      if (extent.state === 'data') found.push(extent.offset / MiB);
    }
    expect(found).toEqual([1000, last]);
    // About 0.2 s on an idle machine; the bound only notices a promise or an object per entry.
    expect(performance.now() - started).toBeLessThan(5000);
    expect((await image.layout()).allocatedBlocks).toBe(2);
    expect(await image.check()).toEqual([]);
  });
});

const hyperV = specimen('differencing.avhdx');

describe.skipIf(hyperV === undefined)('specimen differencing.avhdx', () => {
  it('names its parent and shows its own sectors', async () => {
    const image = await vhdxDriver.open(await nodeFileSystem.open(hyperV ?? ''), {});
    expect(image.parentLink?.acceptedIds).toEqual(['ff34003b-11ed-4cf8-a166-b2be05e20b80']);
    expect(image.parentLink?.candidates).toHaveLength(3);
    expect(image.virtualSize).toBe(8 * GiB);
    expect((await image.layout()).allocatedBlocks).toBe(32);
    const states = new Set<string>();
    for await (const extent of walkExtents<Extent>(image, { offset: 0, length: image.virtualSize })) {
      states.add(extent.state);
    }
    expect([...states].sort()).toEqual(['absent', 'data']);
    expect(await image.check()).toEqual([]);
    await image.close();
  });
});

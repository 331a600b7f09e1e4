/**
 * Images that other programs left in an odd state: what the first change mends, and what is refused.
 */
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { NIL_GUID } from '../../../../src/base/guid.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { editVhdx } from '../../../../src/formats/vhdx/edit.js';
import { decodeHeader } from '../../../../src/formats/vhdx/header.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { batEntry, buildVhdx, DATA_WRITE_GUID, type VhdxDescription } from '../../../support/vhdx-builder.js';
import { access, contentOf, keptOpen, newImage, PARENT, PARENTS, put, reopened } from './edit-kit.js';

const LINK = { linkage: PARENT.ids[0], relativePath: '.\\parent.vhdx' };

async function headers(file: MemoryFile) {
  return [64 * 1024, 128 * 1024].map((at) => decodeHeader(file.bytes().subarray(at, at + 4096)));
}

/** Writes one sector, flushes, closes; returns the image as others then see it. */
async function touched(file: MemoryFile, offset = 0, value = 1) {
  const image = await editVhdx(keptOpen(file), access);
  await put(image, offset, Buffer.alloc(4096, value));
  await image.flush();
  await image.close();
  return reopened(file);
}

describe('the first change', () => {
  it.each(['first', 'second'] as const)('mends a damaged %s header', async (which) => {
    const { file } = await buildVhdx({ virtualSize: MiB });
    await file.write(new Uint8Array(512), which === 'first' ? 64 * 1024 : 128 * 1024);
    const image = await touched(file);
    expect(image.warnings).toEqual([]);
    const [a, b] = await headers(file);
    expect(a?.dataWriteGuid).toBe(b?.dataWriteGuid);
    expect(a?.dataWriteGuid).not.toBe(DATA_WRITE_GUID);
    expect(a?.logGuid).toBe(NIL_GUID);
    expect(a?.sequence).not.toBe(b?.sequence);
  });

  it('parts headers that are the same', async () => {
    const { file } = await buildVhdx({ virtualSize: MiB, header: (header) => ({ ...header, sequence: 1n }) });
    expect((await touched(file)).warnings).toEqual([]);
  });

  it('changes FileWriteGuid, and DataWriteGuid only when the disk changes', async () => {
    const { file } = await buildVhdx({ virtualSize: MiB, parent: LINK });
    const [before] = await headers(file);
    const image = await editVhdx(keptOpen(file), access);
    await image.setParent({ ...PARENT, relativePath: 'other.vhdx' });
    const [moved] = await headers(file);
    expect(moved?.fileWriteGuid).not.toBe(before?.fileWriteGuid);
    expect(moved?.dataWriteGuid).toBe(before?.dataWriteGuid);
    await put(image, 0, Buffer.alloc(512, 1));
    const [written] = await headers(file);
    expect(written?.fileWriteGuid).toBe(moved?.fileWriteGuid);
    expect(written?.dataWriteGuid).not.toBe(moved?.dataWriteGuid);
    await image.close();
  });

  it.each([
    ['is missing', { logLength: 0, logOffset: 0n }],
    ['lies outside the file', { logOffset: BigInt(1024 * MiB) }],
  ])('makes a log where it %s', async (_what, change) => {
    const { file } = await buildVhdx({
      virtualSize: 2 * MiB,
      header: (header) => ({ ...header, ...change }),
    });
    const image = await touched(file, MiB, 7);
    expect((await contentOf(image))[MiB]).toBe(7);
    const [header] = await headers(file);
    expect(header?.logLength).toBe(MiB);
    expect(Number(header?.logOffset) + MiB).toBeLessThanOrEqual(file.size());
    expect((await image.check()).filter(({ severity }) => severity !== 'note')).toEqual([]);
  });

  it('uses the place that an unmapped block kept, without what is in it', async () => {
    const { file, places } = await buildVhdx({
      virtualSize: 2 * MiB,
      parent: LINK,
      blocks: [
        { index: 0, state: 6, data: [{ offset: 0, bytes: new Uint8Array(MiB).fill(0xee) }], present: [] },
      ],
    });
    const place = places.payload.get(0) ?? 0;
    await file.write(batEntry(3, place / MiB), places.entryOf(0));
    const image = await touched(file, 8192, 5);
    const content = await contentOf(image);
    const expected = Buffer.alloc(2 * MiB, PARENTS)
      .fill(0, 0, MiB)
      .fill(5, 8192, 8192 + 4096);
    expect(content.equals(expected)).toBe(true);
    const [extent] = await image.locate(8192, 512);
    expect(extent).toMatchObject({ state: 'data', fileOffset: place + 8192 });
  });

  it('does not take stale bits of a block for its own', async () => {
    const { file } = await buildVhdx({
      virtualSize: 2 * MiB,
      parent: LINK,
      blocks: [
        { index: 0, state: 7, present: [[0, 2048]] },
        { index: 1, state: 7, present: [[0, 1]] },
      ],
    });
    const image = await editVhdx(keptOpen(file), access);
    expect(await image.discard(0, MiB)).toBe(MiB);
    await image.flush();
    await image.close();
    const content = await contentOf(await touched(file, 4096, 3));
    expect(content.subarray(0, MiB).equals(Buffer.alloc(MiB, PARENTS).fill(3, 4096, 8192))).toBe(true);
  });
});

describe('space', () => {
  it('of forgotten blocks is used again, also in a later session', async () => {
    const file = await newImage('dynamic', 8 * MiB);
    const image = await editVhdx(keptOpen(file), access);
    await put(image, 0, Buffer.alloc(6 * MiB, 1));
    await image.flush();
    const size = file.size();
    expect(await image.discard(512, MiB)).toBe(0);
    expect(await image.discard(MiB, 3 * MiB + 512)).toBe(3 * MiB);
    await image.flush();
    await put(image, 6 * MiB, Buffer.alloc(512, 2));
    await image.flush();
    await image.close();
    const again = await touched(file, 7 * MiB, 3);
    expect(file.size()).toBe(size);
    const content = await contentOf(again);
    expect(content.subarray(7 * MiB + 4096).every((byte) => byte === 0)).toBe(true);
  });

  it('at the end is given back when the image is closed', async () => {
    const file = await newImage('dynamic', 8 * MiB);
    const image = await editVhdx(keptOpen(file), access);
    const before = file.size();
    await put(image, 0, Buffer.alloc(6 * MiB, 1));
    await image.flush();
    await image.zero(0, 6 * MiB);
    await image.flush();
    await image.close();
    expect(file.size()).toBe(before);
  });
});

describe('refused', () => {
  it.each<[string, VhdxDescription, object]>([
    [
      'blocks that share space',
      { virtualSize: 2 * MiB, blocks: [{ index: 0 }, { index: 1, offsetMiB: 4 }] },
      { code: 'IMAGE_CORRUPT', context: { defect: 'VHDX_BAT_ENTRY_OVERLAP' } },
    ],
    [
      'an unmapped block that kept a place in the log',
      { virtualSize: 2 * MiB, blocks: [{ index: 0, state: 3, offsetMiB: 1 }] },
      { code: 'IMAGE_CORRUPT', context: { defect: 'VHDX_BAT_ENTRY_IN_METADATA' } },
    ],
    [
      'a sequence number that cannot grow',
      {
        virtualSize: MiB,
        header: (header) => ({ ...header, sequence: 2n ** 64n - 9n + (header.sequence % 2n) }),
      },
      { code: 'IMAGE_CORRUPT', context: { defect: 'VHDX_HEADER_SEQUENCE_EXHAUSTED' } },
    ],
  ])('%s', async (_what, description, error) => {
    const { file } = await buildVhdx(description);
    const before = Buffer.from(file.bytes());
    await expect(editVhdx(file, access)).rejects.toMatchObject(error);
    expect(before.equals(Buffer.from(file.bytes()))).toBe(true);
  });

  it('a file that is open for reading only', async () => {
    const { file } = await buildVhdx({ virtualSize: MiB });
    file.writable = false;
    await expect(editVhdx(file, access)).rejects.toMatchObject({ code: 'READ_ONLY' });
  });

  it('parts of sectors', async () => {
    const image = await editVhdx(await newImage('dynamic', MiB, 4096), access);
    await expect(image.prepareWrite(512, 4096)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(image.zero(0, 512)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(image.prepareWrite(MiB, 4096)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
  });
});

describe('a new child', () => {
  it('is the same disk as its parent, in small blocks', async () => {
    const image = await reopened(await newImage('differencing', 3 * MiB));
    expect(image).toMatchObject({ type: 'differencing', id: PARENT.diskId });
    expect(image.parentLink?.acceptedIds).toEqual([...PARENT.ids]);
  });

  it('is filled sector by sector, and taken up after an interruption', async () => {
    const file = new MemoryFile();
    const options = {
      type: 'differencing',
      virtualSize: 3 * MiB,
      blockSize: MiB,
      parent: PARENT,
      ...access,
    } as const;
    const first = await vhdxDriver.create(file, options);
    const write = await first.prepareWrite(512, 512);
    for (const place of write.places) await file.write(new Uint8Array(512).fill(1), place.fileOffset);
    await write.commit();
    await first.flush();
    // Never committed: to be cut off.
    await first.prepareWrite(2 * MiB, 512);
    const second = await vhdxDriver.resume(new MemoryFile(file.bytes()), options);
    const model = Buffer.alloc(3 * MiB, PARENTS).fill(1, 512, 1024);
    expect((await contentOf(second as never)).equals(model)).toBe(true);
    await second.flush();
    expect((await second.check()).filter(({ severity }) => severity !== 'note')).toEqual([]);
  });

  it('needs a parent, and only it does', async () => {
    const options = { virtualSize: MiB, ...access };
    await expect(
      vhdxDriver.create(new MemoryFile(), { ...options, type: 'differencing' }),
    ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(
      vhdxDriver.create(new MemoryFile(), { ...options, type: 'dynamic', parent: PARENT }),
    ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

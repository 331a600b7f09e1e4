import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { nodeFileSystem } from '../../../../src/io/node-file-system.js';
import { specimen } from '../../../support/specimens.js';
import {
  type BuiltVhdx,
  batEntry,
  buildVhdx,
  LOG_GUID,
  logPage,
  putLogEntry,
} from '../../../support/vhdx-builder.js';

const OTHER_GUID = 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb';

/** A dynamic image with one block, whose payload the tests let the log change. */
async function dirtyImage(logLength = MiB): Promise<BuiltVhdx & { payload: number }> {
  const built = await buildVhdx({
    virtualSize: 4 * MiB,
    logGuid: LOG_GUID,
    logLength,
    blocks: [{ index: 0, data: [{ offset: 0, bytes: new Uint8Array(MiB).fill(1) }] }],
  });
  return { ...built, payload: built.places.payload.get(0) ?? 0 };
}

/** First bytes of the first pages of the disk, as read through the image. */
async function firstPages(built: BuiltVhdx, count: number): Promise<Uint8Array[]> {
  const before = createHash('sha256').update(built.file.bytes()).digest('hex');
  const image = await vhdxDriver.open(built.file, {});
  expect(image.log).toBe('dirty');
  const bytes = new Uint8Array(count * 4096);
  await readDisk(image, bytes, 0);
  expect(createHash('sha256').update(built.file.bytes()).digest('hex')).toBe(before);
  return Array.from({ length: count }, (_, page) => bytes.slice(page * 4096, (page + 1) * 4096));
}

const old = new Uint8Array(4096).fill(1);
const zeros = new Uint8Array(4096);

describe('replaying a log in memory', () => {
  it('applies pages and zero ranges in order, later ones over earlier ones', async () => {
    const built = await dirtyImage();
    const { payload } = built;
    const second = await putLogEntry(built, 0, {
      sequence: 7n,
      updates: [
        { offset: payload, page: logPage(0x11) },
        { offset: payload + 4096, page: logPage(0x22) },
        { offset: payload + 4096, zeros: 8192 },
      ],
    });
    await putLogEntry(built, second, {
      sequence: 8n,
      tail: 0,
      updates: [
        { offset: payload + 8192, page: logPage(0x33) },
        { offset: payload, page: logPage(0x44) },
      ],
    });
    expect(await firstPages(built, 4)).toEqual([logPage(0x44), zeros, logPage(0x33), old]);
  });

  it('wraps round the end of the ring', async () => {
    const built = await dirtyImage();
    const position = MiB - 8192;
    const next = await putLogEntry(built, position, {
      sequence: 3n,
      updates: [1, 2, 3].map((n) => ({ offset: built.payload + n * 4096, page: logPage(n) })),
    });
    expect(next).toBe(8192);
    await putLogEntry(built, next, {
      sequence: 4n,
      tail: position,
      updates: [{ offset: built.payload, page: logPage(9) }],
    });
    expect(await firstPages(built, 5)).toEqual([logPage(9), logPage(1), logPage(2), logPage(3), old]);
  });

  it('starts at the tail of the head, not at the oldest entry found', async () => {
    const built = await dirtyImage();
    const updates = [{ offset: built.payload, page: logPage(0x11) }];
    const second = await putLogEntry(built, 0, { sequence: 1n, updates });
    await putLogEntry(built, second, {
      sequence: 2n,
      updates: [{ offset: built.payload + 4096, page: logPage(0x22) }],
    });
    expect(await firstPages(built, 2)).toEqual([old, logPage(0x22)]);
  });

  it('ignores entries of other logs, even newer ones', async () => {
    const built = await dirtyImage();
    const second = await putLogEntry(built, 0, {
      sequence: 1n,
      updates: [{ offset: built.payload, page: logPage(0x11) }],
    });
    await putLogEntry(built, second, {
      logGuid: OTHER_GUID,
      sequence: 2n,
      tail: 0,
      updates: [{ offset: built.payload, page: logPage(0x22) }],
    });
    await putLogEntry(built, 65536, {
      logGuid: OTHER_GUID,
      sequence: 99n,
      updates: [{ offset: built.payload, page: logPage(0x33) }],
    });
    expect(await firstPages(built, 1)).toEqual([logPage(0x11)]);
  });

  it.each([2n, 4n, 5n])(
    'goes on from entry 3 to a neighbour with number %d only when that is 4',
    async (stale) => {
      const built = await dirtyImage();
      const second = await putLogEntry(built, 0, {
        sequence: 3n,
        updates: [{ offset: built.payload, page: logPage(0x11) }],
      });
      // Follows in place; only number 4 would follow in order.
      await putLogEntry(built, second, {
        sequence: stale,
        tail: 0,
        updates: [{ offset: built.payload, page: logPage(0x22) }],
      });
      expect(await firstPages(built, 1)).toEqual([logPage(stale === 4n ? 0x22 : 0x11)]);
    },
  );

  it('takes the sequence with the greatest head among several', async () => {
    const built = await dirtyImage();
    for (const [position, sequence] of [
      [0, 5n],
      [40960, 9n],
      [81920, 7n],
    ] as const) {
      const updates = [{ offset: built.payload, page: logPage(Number(sequence)) }];
      await putLogEntry(built, position, { sequence, updates });
    }
    expect(await firstPages(built, 1)).toEqual([logPage(9)]);
  });

  it.each([
    ['checksum', 4],
    ['body', 8192 + 100],
    ['data signature', 4096],
    ['sequence in a data sector', 8191],
    ['descriptor signature', 64],
    ['descriptor sequence', 64 + 24],
  ])('stops before a torn last entry (%s)', async (_what, at) => {
    const built = await dirtyImage();
    const page = (n: number) => [
      { offset: built.payload, page: logPage(n) },
      { offset: built.payload + 4096, page: logPage(n + 1) },
    ];
    const second = await putLogEntry(built, 0, { sequence: 1n, updates: page(0x10) });
    await putLogEntry(built, second, { sequence: 2n, tail: 0, updates: page(0x20) }, (bytes) => {
      bytes[at] = (bytes[at] ?? 0) ^ 1;
    });
    expect(await firstPages(built, 2)).toEqual([logPage(0x10), logPage(0x11)]);
  });

  it('handles more descriptors than fit into two sectors', async () => {
    const built = await dirtyImage(2 * MiB);
    const updates = Array.from({ length: 256 }, (_, n) => ({
      offset: built.payload + n * 4096,
      page: logPage(n),
    }));
    const extra = { offset: built.payload + 100 * 4096, zeros: 4096 };
    await putLogEntry(built, 2 * MiB - 4096, { sequence: 1n, updates: [...updates, extra] });
    const pages = await firstPages(built, 256);
    const wrong = updates.filter(({ page }, n) => {
      return Buffer.compare(pages[n] ?? zeros, n === 100 ? zeros : page) !== 0;
    });
    expect(wrong).toEqual([]);
  });

  it('accepts a single empty entry', async () => {
    const built = await dirtyImage();
    await putLogEntry(built, 12288, { sequence: 1n });
    expect(await firstPages(built, 1)).toEqual([old]);
  });

  it('reads table and metadata as they are after replay', async () => {
    const built = await dirtyImage();
    const { bat } = built.places;
    const page = new Uint8Array(4096);
    await built.file.read(page, bat);
    page.set(batEntry(6, built.payload / MiB), 8);
    page.set(batEntry(2, 0), 0);
    await putLogEntry(built, 0, { sequence: 1n, updates: [{ offset: bat, page }] });
    const image = await vhdxDriver.open(built.file, {});
    expect(await image.locate(0, 4 * MiB)).toEqual([
      { state: 'zero', offset: 0, length: MiB },
      { state: 'data', offset: MiB, length: MiB, file: built.file, fileOffset: built.payload },
      { state: 'zero', offset: 2 * MiB, length: 2 * MiB },
    ]);
  });

  it('restores a destroyed region table', async () => {
    const built = await dirtyImage();
    const updates = [192, 256].flatMap((start) =>
      Array.from({ length: 16 }, (_, n) => start * 1024 + n * 4096),
    );
    const pages = [];
    for (const offset of updates) {
      const page = new Uint8Array(4096);
      await built.file.read(page, offset);
      pages.push({ offset, page });
    }
    await built.file.zero(192 * 1024, 128 * 1024);
    await putLogEntry(built, 0, { sequence: 1n, updates: pages });
    expect(await firstPages(built, 1)).toEqual([old]);
  });

  it('extends the file to LastFileOffset, so that blocks there are zeros', async () => {
    const built = await dirtyImage();
    const size = built.file.size();
    const page = new Uint8Array(4096);
    await built.file.read(page, built.places.bat);
    page.set(batEntry(6, size / MiB + 1), 8);
    const updates = [{ offset: built.places.bat, page }];
    await putLogEntry(built, 0, { sequence: 1n, updates, lastFileOffset: size + 2 * MiB });
    const image = await vhdxDriver.open(built.file, {});
    expect((await image.locate(MiB, MiB)).map(({ state }) => state)).toEqual(['zero']);
    expect(await image.check()).toMatchObject([{ code: 'VHDX_LOG_DIRTY' }, { code: 'VHDX_UNUSED_SPACE' }]);
    await putLogEntry(built, 0, { sequence: 1n, updates, lastFileOffset: size + MiB });
    const short = await vhdxDriver.open(built.file, {});
    await expect(short.locate(MiB, MiB)).rejects.toMatchObject({
      context: { defect: 'VHDX_BAT_ENTRY_OUTSIDE_FILE', offset: built.places.entryOf(1) },
    });
  });

  it('looks at FlushedFileOffset of the head only', async () => {
    const built = await dirtyImage();
    const size = built.file.size();
    const second = await putLogEntry(built, 0, { sequence: 1n, flushedFileOffset: size + 8 * MiB });
    await putLogEntry(built, second, { sequence: 2n, tail: 0 });
    expect(await firstPages(built, 1)).toEqual([old]);
    await putLogEntry(built, second, { sequence: 2n, tail: 0, flushedFileOffset: size + MiB });
    await expect(vhdxDriver.open(built.file, {})).rejects.toMatchObject({
      context: { defect: 'VHDX_LOG_FILE_TRUNCATED' },
    });
  });

  it('is not fooled by a full ring of entries that all claim the whole log', async () => {
    const built = await dirtyImage(16 * MiB);
    const header = new Uint8Array(4096);
    await putLogEntry(built, 0, { sequence: 1n }, (bytes) => {
      header.set(bytes);
      new DataView(header.buffer).setUint32(8, 16 * MiB, true);
    });
    for (let at = 0; at < 16 * MiB; at += 4096) await built.file.write(header, built.places.log + at);
    const started = performance.now();
    await expect(vhdxDriver.open(built.file, {})).rejects.toMatchObject({
      context: { defect: 'VHDX_LOG_NO_SEQUENCE', offset: built.places.log },
    });
    // Checksumming each claim would be 64 GiB.
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

describe('the view after replay', () => {
  it('points changed payload at the view, everything else at the file', async () => {
    const built = await dirtyImage();
    const updates = [{ offset: built.payload + 8192, page: logPage(5) }];
    await putLogEntry(built, 0, { sequence: 1n, updates });
    const image = await vhdxDriver.open(built.file, {});
    const [extent] = await image.locate(0, MiB);
    expect(extent).toMatchObject({ state: 'data', fileOffset: built.payload });
    if (extent?.state !== 'data') throw new Error('no data');
    expect(extent.file).not.toBe(built.file);
    expect([extent.file.kind, extent.file.fd, extent.file.writable]).toEqual(['memory', undefined, false]);
    await expect(extent.file.write(new Uint8Array(1), 0)).rejects.toMatchObject({ code: 'READ_ONLY' });
    const bytes = new Uint8Array(100);
    expect(await extent.file.read(bytes, built.payload + 8192 + 4050)).toBe(100);
    expect([bytes[44], bytes[45], bytes[46]]).toEqual([5, 5 ^ 0x55, 1]);
    expect((await image.locate(0, 4096))[0]).toMatchObject({ file: built.file });
    expect(await extent.file.read(bytes, extent.file.size() - 10)).toBe(10);
    expect(await extent.file.read(bytes, extent.file.size() + 10)).toBe(0);
  });
});

const dirty = specimen('vhdx-log-replay.vhdx');

describe.skipIf(dirty === undefined)('specimen vhdx-log-replay.vhdx', () => {
  it('has the content that replay gives it', async () => {
    const image = await vhdxDriver.open(await nodeFileSystem.open(dirty ?? ''), {});
    expect(image.log).toBe('dirty');
    const hash = createHash('sha256');
    const buffer = new Uint8Array(4 * MiB);
    for (let at = 0; at < image.virtualSize; at += buffer.length) {
      await readDisk(image, buffer, at);
      hash.update(buffer);
    }
    expect(hash.digest('hex').slice(0, 16)).toBe('3ba3b309425b7ff5');
    await image.close();
  });
});

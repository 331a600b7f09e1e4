/** `hash`: one digest per disk, whatever holds it. */

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Extent, Locator } from '../../../src/block/extent.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import { CONTENT_CHUNK, contentOf } from '../../../src/operations/content-stream.js';
import { convert } from '../../../src/operations/convert.js';
import { hash } from '../../../src/operations/hash.js';
import { systemHost } from '../../../src/operations/host.js';
import { sha256Sync } from '../../support/content.js';
import { fixture, fixtures } from '../../support/fixtures.js';
import { seededBytes } from '../../support/sample-disk.js';
import { testFolder } from '../../support/tmp.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const host = systemHost();
const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Part {
  stored: boolean;
  length: number;
}

/** A disk of these parts; counts its reads and those that are under way. */
class PartsDisk implements Locator {
  readonly virtualSize: number;
  readonly bytes: Buffer;
  reads = 0;
  underWay = 0;
  readonly #extents: Extent[] = [];

  constructor(parts: readonly Part[]) {
    this.virtualSize = parts.reduce((sum, { length }) => sum + length, 0);
    this.bytes = seededBytes(this.virtualSize, 3);
    // The file holds the disk shifted, so that the two kinds of offset can't be mixed up.
    const file = new MemoryFile(Buffer.concat([Buffer.alloc(777), this.bytes]), 'parts');
    const read = file.read.bind(file);
    file.read = async (buffer, offset) => {
      this.reads += 1;
      this.underWay += 1;
      await new Promise((resolve) => setTimeout(resolve, 1));
      this.underWay -= 1;
      return read(buffer, offset);
    };
    let offset = 0;
    for (const { stored, length } of parts) {
      if (stored) this.#extents.push({ state: 'data', offset, length, file, fileOffset: offset + 777 });
      else {
        this.#extents.push({ state: 'zero', offset, length });
        this.bytes.fill(0, offset, offset + length);
      }
      offset += length;
    }
  }

  async locate(offset: number, length: number): Promise<Extent[]> {
    const clipped: Extent[] = [];
    for (const extent of this.#extents) {
      const start = Math.max(extent.offset, offset);
      const end = Math.min(extent.offset + extent.length, offset + length);
      if (start >= end) continue;
      const part = { ...extent, offset: start, length: end - start };
      if (part.state === 'data') part.fileOffset += start - extent.offset;
      clipped.push(part);
    }
    return clipped;
  }
}

describe('the bytes of a disk in order', () => {
  const part = fc.record({
    stored: fc.boolean(),
    length: fc.oneof(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 60 * KiB, max: 3 * MiB })),
  });

  test('are exactly the disk, in pieces that follow each other', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 8 }), async (parts) => {
        const disk = new PartsDisk(parts);
        const found = Buffer.alloc(disk.virtualSize, 0xee);
        let at = 0;
        for await (const { offset, length, bytes } of contentOf(disk)) {
          expect(offset).toBe(at);
          expect(length).toBeGreaterThan(0);
          if (bytes) {
            expect(bytes.length).toBe(length);
            expect(length).toBeLessThanOrEqual(CONTENT_CHUNK);
            found.set(bytes, offset);
          } else found.fill(0, offset, offset + length);
          at += length;
        }
        expect(at).toBe(disk.virtualSize);
        expect(found.equals(disk.bytes)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  test('holes are not read', async () => {
    const disk = new PartsDisk([{ stored: false, length: 100 * MiB }]);
    let length = 0;
    for await (const piece of contentOf(disk)) {
      expect(piece.bytes).toBeUndefined();
      length += piece.length;
    }
    expect(length).toBe(100 * MiB);
    expect(disk.reads).toBe(0);
  });

  test('several reads are under way at a time, and none is left when the consumer stops', async () => {
    const disk = new PartsDisk([{ stored: true, length: 20 * MiB }]);
    let most = 0;
    for await (const { offset } of contentOf(disk)) {
      most = Math.max(most, disk.underWay);
      if (offset >= 8 * MiB) break;
    }
    expect(most).toBeGreaterThan(1);
    expect(disk.underWay).toBe(0);
    expect(disk.reads).toBeLessThan(20);
  });

  test('a failed read ends it with that failure', async () => {
    const disk = new PartsDisk([{ stored: true, length: 6 * MiB }]);
    const locate = disk.locate.bind(disk);
    disk.locate = async (offset, length) => {
      const extents = await locate(offset, length);
      for (const extent of extents)
        if (extent.state === 'data') extent.file.read = () => Promise.reject(new Error('bad sector'));
      return extents;
    };
    await expect(async () => {
      for await (const piece of contentOf(disk)) void piece;
    }).rejects.toThrow('bad sector');
  });
});

describe('the digest', () => {
  test.each(fixtures().map((facts) => [facts.file, facts] as const))('of fixture %s', async (file, facts) => {
    const result = await hash(host, { path: fixture(file) });
    expect(result).toEqual({
      path: fixture(file),
      format: facts.format,
      virtualSize: facts.virtualSize,
      sha256: facts.contentSha256,
    });
  });

  test('is the one of the raw file, and the same in every format', async () => {
    const folder = testFolder();
    const raw = path.join(folder, 'disk.raw');
    const disk = Buffer.alloc(7 * MiB + 512);
    seededBytes(2 * MiB, 9).copy(disk, MiB + 512);
    writeFileSync(raw, disk);
    expect((await hash(host, { path: raw })).sha256).toBe(sha256Sync(raw));
    for (const to of ['vhd', 'vhdx'] as const) {
      for (const type of ['fixed', 'dynamic'] as const) {
        const target = path.join(folder, `${type}.${to}`);
        await convert(host, { source: raw, target, type });
        const { sha256, virtualSize } = await hash(host, { path: target });
        expect({ to, type, sha256, virtualSize }).toEqual({
          to,
          type,
          sha256: sha256Sync(raw),
          virtualSize: disk.length,
        });
      }
    }
  });

  test.each([1, 511, 513, 70_001])('of a raw file of %i bytes is that of the whole sectors', async (size) => {
    const folder = testFolder();
    const [raw, vhd, vhdx] = ['disk.raw', 'disk.vhd', 'disk.vhdx'].map((name) => path.join(folder, name));
    if (raw === undefined || vhd === undefined || vhdx === undefined) throw new Error('three paths');
    writeFileSync(raw, seededBytes(size, 4));
    const whole = Math.ceil(size / 512) * 512;
    const expected = digestOf(Buffer.concat([readFileSync(raw), Buffer.alloc(whole - size)]));
    expect(await hash(host, { path: raw })).toMatchObject({ sha256: expected, virtualSize: whole });
    for (const target of [vhd, vhdx, path.join(folder, 'copy.raw')]) {
      const converted = await convert(host, { source: raw, target, verify: true });
      expect(converted.sha256).toBe(expected);
      expect(await hash(host, { path: target })).toMatchObject({ sha256: expected, virtualSize: whole });
    }
  });

  test('stops when it is told to, also among zeros', async () => {
    const raw = path.join(testFolder(), 'disk.raw');
    writeFileSync(raw, '');
    const { truncateSync } = await import('node:fs');
    truncateSync(raw, 2 ** 40);
    const signal = AbortSignal.timeout(100);
    await expect(hash(host, { path: raw, signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  test('reports progress up to the end', async () => {
    const seen: number[] = [];
    const raw = path.join(testFolder(), 'disk.raw');
    writeFileSync(raw, seededBytes(3 * MiB, 1));
    await hash(host, { path: raw, progress: { update: (done) => void seen.push(done) } });
    expect(seen).toEqual([MiB, 2 * MiB, 3 * MiB]);
  });
});

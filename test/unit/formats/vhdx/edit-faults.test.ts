/**
 * Storage that fills up while an image is changed: the change fails, the image does not.
 */
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { editVhdx } from '../../../../src/formats/vhdx/edit.js';
import type { EditableVhdx } from '../../../../src/formats/vhdx/editable-vhdx.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { CrashDisk } from '../../../support/crash-disk.js';
import { compareSectors } from './edit-crash-kit.js';
import { access, contentOf, newImage, put } from './edit-kit.js';

type Step = (image: EditableVhdx) => Promise<unknown>;

const STEPS: readonly Step[] = [
  (image) => put(image, 4096, Buffer.alloc(MiB, 1)),
  (image) => image.flush(),
  (image) => image.zero(MiB, MiB),
  (image) => put(image, 2 * MiB + 512, Buffer.alloc(512, 2)),
  (image) => image.flush(),
  (image) => image.resize(5 * MiB),
  (image) => image.resize(3 * MiB),
];

async function contentOfBytes(bytes: Uint8Array): Promise<Buffer> {
  return contentOf(await vhdxDriver.open(new MemoryFile(bytes), {}));
}

/** What the disk shows after each step. */
async function history(start: Uint8Array): Promise<Buffer[]> {
  const image = await editVhdx(new MemoryFile(start), access);
  const seen = [await contentOf(image)];
  for (const step of STEPS) {
    await step(image);
    seen.push(await contentOf(image));
  }
  return seen;
}

describe.each(['dynamic', 'differencing'] as const)('no space left for a %s image', (type) => {
  it('at any operation leaves an image that opens, and goes on once there is space', async () => {
    const start = (await newImage(type, 3 * MiB)).bytes();
    const seen = await history(start);
    let failures = 0;
    for (let room = 0; room < 60; room += 2) {
      const disk = new CrashDisk([['image', start]]);
      const image = await editVhdx(await disk.fileSystem().open('image', { writable: true }), access);
      disk.fullAfter(room);
      let failed = 0;
      for (const [index, step] of STEPS.entries()) {
        const error: unknown = await step(image).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        if (error === undefined) continue;
        expect(error).toMatchObject({ code: 'NO_SPACE' });
        failed = index + 1;
        break;
      }
      const label = `room for ${room} operations, failed at step ${failed}`;
      const left = disk.files().get('image') ?? new Uint8Array();
      const allowed = seen.slice(0, failed === 0 ? seen.length : failed + 1);
      compareSectors(await contentOfBytes(left), allowed, label);
      disk.fullAfter(Number.POSITIVE_INFINITY);
      if (failed > 0 && failed < 6) await image.flush();
      await image.close();
      const closed = disk.files().get('image') ?? new Uint8Array();
      compareSectors(await contentOfBytes(closed), allowed, label);
      const reopened = await vhdxDriver.open(new MemoryFile(closed), {});
      expect(reopened.log, label).toBe('clean');
      const findings = await reopened.check();
      expect(
        findings.filter(({ severity }) => severity === 'error' || severity === 'warning'),
        label,
      ).toEqual([]);
      if (failed === 0) break;
      failures += 1;
    }
    expect(failures).toBeGreaterThan(7);
    expect(failures).toBeLessThan(30);
  });

  it('in the middle of a resize: nothing more is changed until the image is opened again', async () => {
    const disk = new CrashDisk([['image', (await newImage(type, 3 * MiB)).bytes()]]);
    const image = await editVhdx(await disk.fileSystem().open('image', { writable: true }), access);
    await put(image, 0, Buffer.alloc(512, 1));
    await image.flush();
    disk.fullAfter(1);
    await expect(image.resize(MiB)).rejects.toMatchObject({ code: 'NO_SPACE' });
    disk.fullAfter(Number.POSITIVE_INFINITY);
    await expect(image.flush()).rejects.toMatchObject({ code: 'IO_FAILED' });
    await expect(image.prepareWrite(0, 512)).rejects.toMatchObject({ code: 'IO_FAILED' });
    await image.close();
    const bytes = disk.files().get('image') ?? new Uint8Array();
    expect([MiB, 3 * MiB]).toContain((await contentOfBytes(bytes)).length);
  });
});

/** What `convert --in-place` refuses and what it says. Crashes and real storage are tested elsewhere. */
import { linkSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { convert } from '../../../src/operations/convert.js';
import { convertInPlace } from '../../../src/operations/convert-in-place.js';
import { systemHost } from '../../../src/operations/host.js';
import { CrashDisk } from '../../support/crash-disk.js';
import { crashDiskWith, hostOn, IMAGE, MiB, shownBy } from '../../support/resize-kit.js';
import { testFolder } from '../../support/tmp.js';
import { numbered } from '../guestfs/disks.js';

const host = systemHost();

/** 4 MiB on real storage: numbers, then zeros that are stored. */
function stored(folder = testFolder()): string {
  const file = path.join(folder, 'disk.raw');
  writeFileSync(file, numbered(4 * MiB).fill(0, 2 * MiB));
  return file;
}

const storage = (file: string): number => statSync(file).blocks * 512;

describe('a raw image', () => {
  it('gives back the storage of zeros, and gets it again', async () => {
    const file = stored();
    const before = readFileSync(file);
    const dry = await convertInPlace(host, { path: file, type: 'dynamic', dryRun: true });
    expect(dry).toMatchObject({ zerosGivenBack: 2 * MiB, dryRun: true, before: dry.after });
    expect(storage(file)).toBeGreaterThanOrEqual(4 * MiB);
    const thin = await convertInPlace(host, { path: file, type: 'dynamic' });
    expect(thin.after.allocatedBytes).toBeLessThan(2.5 * MiB);
    expect(thin.zerosGivenBack).toBe(2 * MiB);
    const thick = await convertInPlace(host, { path: file, type: 'fixed' });
    expect(storage(file)).toBeGreaterThanOrEqual(4 * MiB);
    expect(thick).toMatchObject({ before: thin.after, zerosGivenBack: 0 });
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  it('is not looked into with --zeros holes', async () => {
    const file = stored();
    expect(await convertInPlace(host, { path: file, type: 'dynamic', zeros: 'holes' })).toMatchObject({
      zerosGivenBack: 0,
    });
    expect(storage(file)).toBeGreaterThanOrEqual(4 * MiB);
  });
});

describe('a VHDX', () => {
  it('becomes fixed and dynamic again, with the id that children know', async () => {
    const raw = stored();
    const file = path.join(path.dirname(raw), 'disk.vhdx');
    await convert(host, { source: raw, target: file, blockSize: MiB });
    const small = statSync(file).size;
    const steps: [number, number][] = [];
    const fixed = await convertInPlace(host, {
      path: file,
      type: 'fixed',
      progress: { update: (done, total) => steps.push([done, total]) },
    });
    expect(fixed).toMatchObject({ from: 'dynamic', type: 'fixed', format: 'vhdx', means: 'sameFile' });
    expect(fixed.after.fileSize).toBe(small + 2 * MiB);
    expect(storage(file)).toBeGreaterThanOrEqual(fixed.after.fileSize);
    expect(steps.length).toBeGreaterThan(0);
    expect(steps.every(([done, total]) => done <= total)).toBe(true);
    const dynamic = await convertInPlace(host, { path: file, type: 'dynamic' });
    expect(dynamic).toMatchObject({ from: 'fixed', type: 'dynamic', zerosGivenBack: 2 * MiB });
    expect(storage(file)).toBeLessThan(fixed.after.allocatedBytes - 1.5 * MiB);
  });

  it('that could not get all its storage is what it was, and says so', async () => {
    const kind = { format: 'vhdx', type: 'dynamic', blockSize: MiB } as const;
    const content = numbered(4 * MiB).fill(0, MiB);
    const disk = await crashDiskWith(kind, content);
    for (const operations of [0, 2, 5, 8]) {
      disk.fullAfter(operations);
      const result = convertInPlace(hostOn(disk), { path: IMAGE, type: 'fixed' });
      await expect(result).rejects.toMatchObject({ code: 'NO_SPACE' });
      disk.fullAfter(Number.POSITIVE_INFINITY);
      const shown = await shownBy(disk.files(), 'vhdx');
      expect(shown.content.equals(content)).toBe(true);
    }
    await convertInPlace(hostOn(disk), { path: IMAGE, type: 'fixed' });
    expect(await shownBy(disk.files(), 'vhdx')).toMatchObject({ type: 'fixed' });
  });
});

describe('what is refused', () => {
  it('the other layout of a VHD where extents are not shared: says why and what to do', async () => {
    for (const type of ['fixed', 'dynamic'] as const) {
      const other = type === 'fixed' ? 'dynamic' : 'fixed';
      const disk = await crashDiskWith({ format: 'vhd', type: other, blockSize: 256 * 1024 }, numbered(MiB));
      const before = Buffer.from(disk.files().get(IMAGE) ?? []);
      const error = await convertInPlace(hostOn(disk), { path: IMAGE, type }).catch(
        (reason: unknown) => reason,
      );
      expect(error).toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringMatching(/another layout, and its payload can't be shared/),
        hint: expect.stringContaining(`vhdkit convert ${IMAGE} NEW.vhd --type ${type}`),
      });
      expect(before.equals(disk.files().get(IMAGE) ?? new Uint8Array(0))).toBe(true);
    }
  });

  it('a VHD whose blocks lie where nothing can be shared, before a byte is looked at', async () => {
    const disk = await crashDiskWith(
      { format: 'vhd', type: 'dynamic', blockSize: 256 * 1024 },
      numbered(MiB),
    );
    // Everything behind the table one sector further down, as packed writers have it.
    const bytes = Buffer.from(disk.files().get(IMAGE) ?? []);
    const table = Number(bytes.readBigUInt64BE(512 + 16));
    const entries = [0, 1, 2, 3].map((index) => bytes.readUInt32BE(table + index * 4));
    const moved = Buffer.concat([
      bytes.subarray(0, table + 512),
      Buffer.alloc(512),
      bytes.subarray(table + 512),
    ]);
    for (const [index, entry] of entries.entries()) moved.writeUInt32BE(entry + 1, table + index * 4);
    const packed = new CrashDisk([[IMAGE, moved]]);
    const error = convertInPlace(hostOn(packed), { path: IMAGE, type: 'fixed' });
    await expect(error).rejects.toMatchObject({
      message: expect.stringContaining('multiples of 512 bytes only'),
    });
  });

  it('differencing images', async () => {
    const disk = await crashDiskWith(
      { format: 'vhd', type: 'differencing', blockSize: 256 * 1024 },
      numbered(MiB),
    );
    const error = convertInPlace(hostOn(disk), { path: IMAGE, type: 'fixed' });
    await expect(error).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      hint: expect.stringContaining('Merge'),
    });
  });

  it('images that somebody holds, and Ctrl-C', async () => {
    const disk = await crashDiskWith({ format: 'vhdx', type: 'fixed', blockSize: MiB }, numbered(2 * MiB));
    const busy = hostOn(disk);
    const lock = await busy.fileSystem.lock(IMAGE);
    const asked = { path: IMAGE, type: 'dynamic' } as const;
    await expect(convertInPlace(busy, asked)).rejects.toMatchObject({ code: 'IN_USE', context: { pid: 1 } });
    await lock.release();
    const dynamic = await crashDiskWith(
      { format: 'vhdx', type: 'dynamic', blockSize: MiB },
      Buffer.alloc(2 * MiB),
    );
    const stopped = convertInPlace(hostOn(dynamic), {
      path: IMAGE,
      type: 'fixed',
      signal: AbortSignal.abort(),
    });
    await expect(stopped).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await shownBy(dynamic.files(), 'vhdx')).toMatchObject({ type: 'dynamic' });
  });
});

describe('a new file like the old one', () => {
  it('is refused where the old one has other names, and leaves nothing behind', async () => {
    const folder = testFolder();
    const file = path.join(folder, 'a');
    writeFileSync(file, 'old');
    linkSync(file, path.join(folder, 'b'));
    const pending = host.fileSystem.createPending(file, { overwrite: true, like: true });
    await expect(pending).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('2 names'),
    });
    expect(readdirSync(folder).sort()).toEqual(['a', 'b']);
  });
});

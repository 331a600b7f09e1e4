/**
 * The snapshot operations on files: what is refused, what is noticed, and what full storage does.
 */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import { SNAPSHOT_DEVICES } from '../../../../src/layers/snapshots.js';
import { createWriteOnce } from '../../../../src/layers/write-once/open.js';
import { compare } from '../../../../src/operations/compare.js';
import { convert } from '../../../../src/operations/convert.js';
import { openForEditing } from '../../../../src/operations/editing.js';
import { hash } from '../../../../src/operations/hash.js';
import { systemHost } from '../../../../src/operations/host.js';
import { info } from '../../../../src/operations/info.js';
import { openRead } from '../../../../src/operations/read.js';
import { createSnapshot } from '../../../../src/operations/snapshot/create.js';
import { deleteSnapshots } from '../../../../src/operations/snapshot/delete.js';
import { exportSnapshot } from '../../../../src/operations/snapshot/export.js';
import { listSnapshots } from '../../../../src/operations/snapshot/list.js';
import { openSet } from '../../../../src/operations/snapshot/open-set.js';
import { restoreSnapshot } from '../../../../src/operations/snapshot/restore.js';
import { write as writeDisk } from '../../../../src/operations/write.js';
import { loopDevice, mountedFileSystem } from '../../../support/mounts.js';
import { canLoop, canMount } from '../../../support/requires.js';
import { pattern } from '../../../support/snapshot-kit.js';
import { testFolder } from '../../../support/tmp.js';

const MiB = 1 << 20;
const SIZE = MiB + 512;
const host = systemHost();

async function newImage(folder = testFolder('snapshots')): Promise<string> {
  const image = path.join(folder, 'disk.img');
  await fs.writeFile(image, pattern(SIZE, 1));
  return image;
}

async function write(image: string, offset: number, bytes: Uint8Array): Promise<void> {
  const input = (async function* () {
    yield bytes;
  })();
  await writeDisk(host, { path: image, format: 'raw', offset, input });
}

async function contentOf(file: string): Promise<string> {
  return (await fs.readFile(file)).toString('base64');
}

async function exported(image: string, name: string): Promise<string> {
  const target = path.join(path.dirname(image), `${name}.raw`);
  await exportSnapshot(host, { path: image, name, target });
  return contentOf(target);
}

const ORIGINAL = Buffer.from(pattern(SIZE, 1)).toString('base64');

describe('snapshots of a raw image', () => {
  it.each(['sparse', 'vhdx'])(
    'are kept in %s devices, put back, and deleted without a trace',
    async (device) => {
      const image = await newImage();
      const { chunkSize } = await createSnapshot(host, { path: image, name: 'monday', device });
      expect(chunkSize).toBe(device === 'vhdx' ? MiB : 65536);
      await write(image, 70_000, pattern(200_000, 2));
      const changed = await contentOf(image);
      expect(await exported(image, 'monday')).toBe(ORIGINAL);
      expect((await info(host, { path: image })).snapshots).toBe(1);
      const result = await restoreSnapshot(host, { path: image, name: 'monday', keep: 'undo', device });
      expect(result.restored).toBeGreaterThan(200_000);
      expect(await contentOf(image)).toBe(ORIGINAL);
      expect(await exported(image, 'undo')).toBe(changed);
      await deleteSnapshots(host, { path: image, names: [], all: true });
      expect(await fs.readdir(path.dirname(image))).not.toContain('disk.img.vhdkit-snapshots');
    },
  );

  it('are lost when something else changes the image, which is noticed and said', async () => {
    const image = await newImage();
    await createSnapshot(host, { path: image, name: 'monday' });
    const file = await fs.open(image, 'r+');
    await file.write(pattern(10, 9), 0, 10, 5000);
    await file.close();
    const list = await listSnapshots(host, { path: image });
    expect(list).toMatchObject({
      image: 'changed',
      snapshots: [{ state: 'broken', reason: 'image-changed' }],
    });
    expect(await info(host, { path: image })).toMatchObject({ snapshots: 1, brokenSnapshots: 1 });
    const wanted = { code: 'SNAPSHOT_BROKEN', context: { reason: 'image-changed' } };
    await expect(exported(image, 'monday')).rejects.toMatchObject(wanted);
    await expect(restoreSnapshot(host, { path: image, name: 'monday' })).rejects.toMatchObject(wanted);
    const made = await createSnapshot(host, { path: image, name: 'tuesday' });
    expect(made.lost).toEqual(['monday']);
    const now = await contentOf(image);
    await write(image, 4096, pattern(4096, 3));
    expect(await exported(image, 'tuesday')).toBe(now);
    await deleteSnapshots(host, { path: image, names: ['monday'] });
    expect(await exported2(image)).toBe(now);
  });

  it('stay of use when a restore is interrupted and taken up again', async () => {
    const image = await newImage();
    await createSnapshot(host, { path: image, name: 'monday', chunkSize: 4096 });
    await write(image, 0, pattern(SIZE, 2));
    const stopped = new AbortController();
    const progress = { update: () => stopped.abort() };
    const restore = { path: image, name: 'monday' };
    const cancelled = restoreSnapshot(host, { ...restore, progress, signal: stopped.signal });
    await expect(cancelled).rejects.toMatchObject({
      code: 'CANCELLED',
      hint: expect.stringContaining('half-way'),
    });
    expect((await listSnapshots(host, { path: image })).restoring).toBe('monday');
    expect(await info(host, { path: image })).toMatchObject({ snapshots: 1, restoring: 'monday' });
    const target = path.join(path.dirname(image), 'copy.vhdx');
    for (const reading of [
      () => convert(host, { source: image, target }),
      () => compare(host, { a: image, b: image }),
      () => openRead(host, { path: image }),
      () => hash(host, { path: image }),
    ])
      await expect(reading()).rejects.toMatchObject({ code: 'IN_USE', context: { snapshot: 'monday' } });
    await restoreSnapshot(host, restore);
    expect(await contentOf(image)).toBe(ORIGINAL);
    const list = await listSnapshots(host, { path: image });
    expect(list).toMatchObject({ image: 'unchanged', restoring: null, snapshots: [{ state: 'intact' }] });
  });

  it('tell what changed since, amid a restore too', async () => {
    const image = await newImage();
    await createSnapshot(host, { path: image, name: 'old', chunkSize: 4096 });
    await write(image, 0, pattern(SIZE, 2));
    await createSnapshot(host, { path: image, name: 'new' });
    const { set, close } = await openSet(host, { path: image });
    expect(await set.changes('new', 0, SIZE)).toEqual([{ length: SIZE, changed: false }]);
    const stopped = new AbortController();
    const options = { signal: stopped.signal, onProgress: () => stopped.abort() };
    await expect(set.restore('old', options)).rejects.toMatchObject({ code: 'CANCELLED' });
    // One chunk is not put back yet; the disk shows what it is to be.
    expect(await set.changes('new', 0, SIZE)).toEqual([{ length: SIZE, changed: true }]);
    expect(await set.changes('old', MiB, 512)).toEqual([{ length: 512, changed: false }]);
    await close();
  });

  it.each(['a/b', '../x', '', '.hidden', 'a@b', 'a b', '-x', 'x'.repeat(65)])(
    "can't be called '%s'",
    async (name) => {
      const image = await newImage();
      const failed = createSnapshot(host, { path: image, name });
      await expect(failed).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(await fs.readdir(path.dirname(image))).toEqual(['disk.img']);
    },
  );

  it('need an empty device of the right size, for this image', async () => {
    const image = await newImage();
    const device = path.join(path.dirname(image), 'device');
    await createSnapshot(host, { path: image, name: 'first' });
    await createWriteOnce('sparse', device, { size: SIZE, primaryId: 'another' });
    const refused = createSnapshot(host, { path: image, name: 'second', writeOnce: device });
    await expect(refused).rejects.toMatchObject({
      code: 'WRITE_ONCE_MISMATCH',
      context: { reason: 'primary' },
    });
    const record = JSON.parse(await fs.readFile(`${image}.vhdkit-snapshots/manifest.json`, 'utf8'));
    const primaryId: string = record.content.imageId;
    await createWriteOnce('sparse', device, { size: SIZE - 512, primaryId, overwrite: true });
    const small = createSnapshot(host, { path: image, name: 'second', writeOnce: device });
    await expect(small).rejects.toMatchObject({ context: { reason: 'size' } });
    await fs.rm(device);
    await createSnapshot(host, { path: image, name: 'second', writeOnce: device });
    const shared = createSnapshot(host, { path: image, name: 'third', writeOnce: device });
    await expect(shared).rejects.toMatchObject({ code: 'IN_USE' });
    await fs.link(device, `${device}-2`);
    const linked = createSnapshot(host, { path: image, name: 'third', writeOnce: `${device}-2` });
    await expect(linked).rejects.toMatchObject({ code: 'IN_USE' });
    await write(image, 0, pattern(512, 4));
    const used = createSnapshot(host, { path: image, name: 'third', writeOnce: device });
    await expect(used).rejects.toMatchObject({ code: expect.stringMatching(/WRITE_ONCE_MISMATCH|IN_USE/) });
    expect((await listSnapshots(host, { path: image })).snapshots.map(({ name }) => name)).toEqual([
      'first',
      'second',
    ]);
  });

  it('say when a device is gone, and are given up only by deleting', async () => {
    const image = await newImage();
    await createSnapshot(host, { path: image, name: 'old' });
    const { snapshot } = await createSnapshot(host, { path: image, name: 'new' });
    await fs.rm(snapshot.device);
    await expect(write(image, 0, pattern(512, 4))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await contentOf(image)).toBe(ORIGINAL);
    await deleteSnapshots(host, { path: image, names: ['new'] });
    const list = await listSnapshots(host, { path: image });
    expect(list.snapshots).toMatchObject([{ name: 'old', state: 'broken', reason: 'device-lost' }]);
    await write(image, 0, pattern(512, 4));
  });

  it.each(SNAPSHOT_DEVICES)(
    'are listed as lost while a device is gone or is another one: %s',
    async (device) => {
      const image = await newImage();
      await createSnapshot(host, { path: image, name: 'old', device });
      const { snapshot } = await createSnapshot(host, { path: image, name: 'middle', device });
      await createSnapshot(host, { path: image, name: 'new', device });
      const states = async () =>
        (await listSnapshots(host, { path: image })).snapshots.map(({ state, reason }) => [state, reason]);
      const sound = ['intact', null];
      expect(await states()).toEqual([sound, sound, sound]);
      await fs.rename(snapshot.device, `${image}-aside`);
      const lost = ['lost', 'device-lost'];
      expect(await states()).toEqual([lost, lost, sound]);
      expect(await info(host, { path: image })).toMatchObject({ snapshots: 3, brokenSnapshots: 2 });
      await fs.writeFile(snapshot.device, pattern(100_000, 3));
      expect(await states()).toEqual([lost, lost, sound]);
      await fs.rename(`${image}-aside`, snapshot.device);
      const whole = await fs.readFile(snapshot.device);
      await fs.truncate(snapshot.device, 5000);
      const cut = device === 'thin' ? sound : ['lost', 'damaged'];
      expect((await states())[1]).toEqual(cut);
      await fs.writeFile(snapshot.device, whole);
      // Somebody has the image: only whether it is there is asked.
      const lock = await host.fileSystem.lock(image);
      expect(await states()).toEqual([sound, sound, sound]);
      await fs.rename(snapshot.device, `${image}-aside`);
      expect(await states()).toEqual([lost, lost, sound]);
      await lock.release();
      await deleteSnapshots(host, { path: image, names: ['middle'] });
      const broken = ['broken', 'device-lost'];
      expect(await states()).toEqual([broken, sound]);
    },
  );

  it('whose device is damaged can be given up, with those that need it', async () => {
    const image = await newImage();
    await createSnapshot(host, { path: image, name: 'old' });
    const { snapshot } = await createSnapshot(host, { path: image, name: 'new' });
    await write(image, 0, pattern(512, 4));
    const file = await fs.open(snapshot.device, 'r+');
    for (const copy of [65536, 131072]) await file.write('damage', copy + 100);
    await file.close();
    const failed = deleteSnapshots(host, { path: image, names: ['new'] });
    const hint = expect.stringContaining(`vhdkit snapshot delete ${image} old new`);
    await expect(failed).rejects.toMatchObject({ code: 'IMAGE_CORRUPT', hint });
    await deleteSnapshots(host, { path: image, names: ['old', 'new'] });
    expect(await fs.readdir(path.dirname(image))).toEqual(['disk.img']);
  });

  it('need a folder of their own', async () => {
    const [image, other] = [await newImage(), await newImage()];
    const folder = path.join(testFolder('named'), 'snapshots');
    await createSnapshot(host, { path: image, name: 'monday', folder });
    const second = createSnapshot(host, { path: other, name: 'tuesday', folder });
    const wanted = { code: 'SNAPSHOT_RECORD_INVALID', context: { reason: 'another-image' } };
    await expect(second).rejects.toMatchObject(wanted);
    // Nothing became of the first one's, also when it is moved.
    await fs.rename(image, `${image}-2`);
    const list = await listSnapshots(host, { path: `${image}-2`, folder });
    expect(list.snapshots).toMatchObject([{ name: 'monday', state: 'intact' }]);
    await deleteSnapshots(host, { path: `${image}-2`, folder, names: ['monday'] });
  });

  it('leave alone what lies in the place of their device by now', async () => {
    const [image, other] = [await newImage(), await newImage()];
    const writeOnce = path.join(path.dirname(image), 'device');
    await createSnapshot(host, { path: image, name: 'lost', writeOnce });
    await fs.rm(writeOnce);
    await createSnapshot(host, { path: other, name: 'kept', writeOnce });
    await write(other, 0, pattern(SIZE, 2));
    await deleteSnapshots(host, { path: image, names: ['lost'] });
    expect(await exported(other, 'kept')).toBe(ORIGINAL);
    await deleteSnapshots(host, { path: other, names: ['kept'] });
    expect(await fs.readdir(path.dirname(image))).toEqual(['disk.img']);
  });

  it('leave nothing behind when they can not be made, and judge a dry run alike', async () => {
    const image = await newImage();
    const wrong = [
      { chunkSize: 5000 },
      { chunkSize: 65536, device: 'vhdx' },
      { device: 'paper' },
      { writeOnce: image },
    ];
    for (const options of wrong) {
      const failed = createSnapshot(host, { path: image, name: 'monday', ...options });
      await expect(failed).rejects.toBeInstanceOf(VhdkitError);
      expect(await fs.readdir(path.dirname(image))).toEqual(['disk.img']);
    }
    for (const options of wrong.slice(0, 3)) {
      const judged = createSnapshot(host, { path: image, name: 'monday', ...options, dryRun: true });
      await expect(judged).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(await createSnapshot(host, { path: image, device: 'vhdx', dryRun: true })).toMatchObject({
      chunkSize: MiB,
    });
  });

  it('refuse a damaged record, another size, and another image in their place', async () => {
    const image = await newImage();
    await createSnapshot(host, { path: image, name: 'first' });
    const other = exportSnapshot(host, { path: image, name: 'first', target: image, force: true });
    await expect(other).rejects.toMatchObject({
      code: expect.stringMatching(/HAS_SNAPSHOTS|INVALID_ARGUMENT/),
    });
    const editing = await openForEditing(host, image, { format: 'raw' });
    await expect(editing.image.resize(2 * MiB)).rejects.toMatchObject({ code: 'HAS_SNAPSHOTS' });
    await editing.close();
    const record = `${image}.vhdkit-snapshots/manifest.json`;
    const text = await fs.readFile(record, 'utf8');
    await fs.writeFile(record, text.replace('"first"', '"forst"'));
    await expect(write(image, 0, pattern(512, 4))).rejects.toMatchObject({ code: 'SNAPSHOT_RECORD_INVALID' });
    expect(await contentOf(image)).toBe(ORIGINAL);
  });
});

async function exported2(image: string): Promise<string> {
  const target = path.join(path.dirname(image), 'again.raw');
  await exportSnapshot(host, { path: image, name: 'tuesday', target });
  return contentOf(target);
}

describe.skipIf(!canLoop())('a snapshot on a block device', () => {
  it('takes an empty one, uses it, and leaves it empty', async () => {
    const image = await newImage();
    const file = path.join(testFolder('device'), 'device');
    await fs.writeFile(file, '');
    await fs.truncate(file, SIZE + 4 * MiB);
    await fs.writeFile(`${file}-small`, new Uint8Array(MiB));
    const [device, small] = [loopDevice(file).path, loopDevice(`${file}-small`).path];
    const options = { path: image, name: 'monday' };
    const tooSmall = createSnapshot(host, { ...options, writeOnce: small });
    await expect(tooSmall).rejects.toMatchObject({ code: 'TARGET_TOO_SMALL' });
    const thin = createSnapshot(host, { ...options, writeOnce: device, device: 'thin' });
    await expect(thin).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    for (let round = 1; round <= 2; round += 1) {
      await createSnapshot(host, { ...options, writeOnce: device });
      await write(image, 0, pattern(SIZE, 2));
      const taken = createSnapshot(host, { path: await newImage(), name: 'other', writeOnce: device });
      await expect(taken).rejects.toMatchObject({ context: { reason: 'not-empty' } });
      await restoreSnapshot(host, options);
      expect(await contentOf(image)).toBe(ORIGINAL);
      await deleteSnapshots(host, { path: image, names: [], all: true });
    }
    expect((await fs.stat(device)).isBlockDevice()).toBe(true);
  });
});

describe.skipIf(!canMount('tmpfs'))('a snapshot whose storage is full', () => {
  it.each(['fail-writes', 'break-snapshot'] as const)('with %s is never wrong', async (onFailure) => {
    const small = mountedFileSystem('tmpfs', 2)?.path ?? '';
    const image = path.join(testFolder('full'), 'disk.img');
    const content = pattern(4 * MiB, 1);
    await fs.writeFile(image, content);
    const writeOnce = path.join(small, 'chunks');
    await createSnapshot(host, { path: image, name: 'full', writeOnce, onFailure });
    const { set, close } = await openSet(host, { path: image });
    let failed = 0;
    for (let offset = 0; offset < 4 * MiB; offset += 65536) {
      await set.volume.write(pattern(4096, 2), offset).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'NO_SPACE', context: { snapshot: 'full' } });
        failed += 1;
      });
    }
    const live = new Uint8Array(4 * MiB);
    await set.volume.read(live, 0);
    const written = Array.from({ length: 64 }, (_, chunk) => live[chunk * 65536] === pattern(1, 2)[0]);
    if (onFailure === 'fail-writes') {
      expect(failed).toBeGreaterThan(0);
      expect(written.filter((each) => !each)).toHaveLength(failed);
      const kept = new Uint8Array(4 * MiB);
      await set.view('full').read(kept, 0);
      expect(Buffer.compare(kept, content)).toBe(0);
    } else {
      expect(failed).toBe(0);
      expect(written.every(Boolean)).toBe(true);
      expect(() => set.view('full')).toThrow(expect.objectContaining({ code: 'SNAPSHOT_BROKEN' }));
    }
    await close();
    const list = await listSnapshots(host, { path: image });
    expect(list.snapshots[0]?.state).toBe(onFailure === 'fail-writes' ? 'intact' : 'broken');
  });
});

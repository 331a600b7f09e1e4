/**
 * Where preserved volumes are kept: what is refused leaves nothing open, and requests that meet each other leave one
 * volume or none.
 */
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../src/base/clock.js';
import { VhdkitError } from '../../../../src/base/errors.js';
import type { BlockDevice } from '../../../../src/block/block-device.js';
import { nodeFileSystem as fileSystem } from '../../../../src/io/node-file-system.js';
import { makePrivateFolder, removeEmptyFolder } from '../../../../src/io/private-folder.js';
import { readPreservedVolume, VolumeSite } from '../../../../src/layers/volumes.js';
import { FileDevice } from '../../../support/file-device.js';
import { testFolder } from '../../../support/tmp.js';

const SIZE = 256 * 1024;
const access = {
  fileSystem,
  clock: systemClock,
  makeFolder: makePrivateFolder,
  removeFolder: removeEmptyFolder,
};

async function newSite(
  pause?: () => Promise<void>,
): Promise<{ site: VolumeSite; image: string; device: FileDevice }> {
  const image = path.join(testFolder('volume-site'), 'disk.img');
  await fs.writeFile(image, Buffer.alloc(SIZE, 1));
  const file = await fileSystem.open(image, { writable: true });
  const device = new FileDevice(file, SIZE, pause);
  return { site: await VolumeSite.open(access, image, device), image, device };
}

const READ = 4096;

async function firstBytes(device: BlockDevice): Promise<Uint8Array> {
  const buffer = new Uint8Array(READ);
  await device.read(buffer, 0);
  return buffer;
}

/** Files that this process has open below a folder; undefined where the system does not tell. */
function openBelow(folder: string): string[] | undefined {
  if (!existsSync('/proc/self/fd')) return undefined;
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const name = readlinkSync(`/proc/self/fd/${fd}`);
      return name.startsWith(folder) ? [name] : [];
    } catch {
      return [];
    }
  });
}

describe('a volume that is refused', () => {
  it('leaves nothing open and nothing behind', async () => {
    const { site, image } = await newSite();
    const before = openBelow(path.dirname(image));
    await expect(site.create({ name: 'a', blockSize: 100 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    expect(openBelow(path.dirname(image))).toEqual(before);
    expect(await fs.readdir(path.dirname(image))).toEqual(['disk.img']);
    await site.front.close();
  });

  it('leaves the other one as it is, however close they come', async () => {
    const { site, image } = await newSite();
    const made = await Promise.allSettled([
      site.create({ name: 'a' }),
      site.create({ name: 'b', blockSize: 8192 }),
    ]);
    expect(made.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(made[1]).toMatchObject({ reason: { code: 'ALREADY_EXISTS' } });
    expect(await site.facts()).toMatchObject({ name: 'a', blockSize: 65536 });
    expect(site.preserved?.name).toBe('a');
    await site.front.close();
    expect(await readPreservedVolume(fileSystem, image)).toMatchObject({ name: 'a', blockSize: 65536 });
    expect(openBelow(path.dirname(image)) ?? []).toEqual([]);
  });

  it('is there after all when the one before is on its way out', async () => {
    const { site, image } = await newSite();
    await site.create({ name: 'a' });
    await Promise.all([site.delete('a'), site.create({ name: 'b' })]);
    await site.front.write(Buffer.alloc(512, 2), 0);
    await site.front.close();
    expect(await readPreservedVolume(fileSystem, image)).toMatchObject({ name: 'b', copied: 1 });
  });
});

describe('a volume that is made while writes are under way', () => {
  it('is there when they have ended, and shows the same from then on; nobody else waits', async () => {
    let resume = (): void => undefined;
    const blocked = new Promise<void>((resolve) => (resume = resolve));
    let pauses = 0;
    const { site, image } = await newSite(async () => {
      pauses += 1;
      if (pauses === 2) await blocked;
    });
    // Stuck after its first sector.
    const early = site.front.write(Buffer.alloc(1024, 2), 0);
    await expect.poll(() => pauses).toBe(2);
    let isMade = false;
    const made = site.create({ name: 'a' }).then(() => {
      isMade = true;
    });
    // From the moment they part on, what is written elsewhere is copied first.
    await expect
      .poll(async () => {
        await site.front.write(Buffer.alloc(512, 3), 128 * 1024);
        const copies = await fs.readFile(path.join(`${image}.vhdkit-volumes`, 'copies'));
        return copies[128 * 1024];
      })
      .toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([isMade, site.preserved]).toEqual([false, undefined]);
    resume();
    await Promise.all([made, early]);
    const { device } = site.preserved ?? expect.unreachable();
    const shown = await firstBytes(device);
    expect([shown[0], shown[1023], shown[1024]]).toEqual([2, 2, 1]);
    await site.front.write(Buffer.alloc(512, 4), 0);
    expect(await firstBytes(device)).toEqual(shown);
    await site.front.close();
  });

  it('is taken back where what it shows could not be made durable', async () => {
    const { site, image, device } = await newSite();
    const flush = device.flush.bind(device);
    const failed = new VhdkitError('IO_FAILED', 'gone');
    device.flush = async () => {
      throw failed;
    };
    await expect(site.create({ name: 'a' })).rejects.toBe(failed);
    device.flush = flush;
    expect([site.preserved, await fs.readdir(path.dirname(image))]).toEqual([undefined, ['disk.img']]);
    await site.create({ name: 'b' });
    await site.front.close();
    expect(openBelow(path.dirname(image)) ?? []).toEqual([]);
  });

  it('stays, whole, where its record could not be removed', async () => {
    const image = path.join(testFolder('volume-site'), 'disk.img');
    await fs.writeFile(image, Buffer.alloc(SIZE, 1));
    const failed = new VhdkitError('IO_FAILED', 'gone');
    let broken = false;
    const remove: typeof fileSystem.remove = async (name) => {
      if (broken) throw failed;
      await fileSystem.remove(name);
    };
    const open = async (): Promise<VolumeSite> => {
      const file = await fileSystem.open(image, { writable: true });
      const frail = { ...access, fileSystem: { ...fileSystem, remove } };
      return VolumeSite.open(frail, image, new FileDevice(file, SIZE));
    };
    const site = await open();
    await site.create({ name: 'a' });
    broken = true;
    await expect(site.delete('a')).rejects.toBe(failed);
    await site.front.write(Buffer.alloc(512, 4), 0);
    await site.front.close();
    const again = await open();
    const { device } = again.preserved ?? expect.unreachable();
    expect((await firstBytes(device))[0]).toBe(1);
    await again.front.close();
  });
});

describe('a volume that is deleted while it is being made', () => {
  it('is made first; then whoever uses it lets go', async () => {
    const { site } = await newSite();
    const steps: string[] = [];
    const made = site.create({ name: 'a' }).then(() => steps.push('made'));
    await site.delete('a', async () => {
      steps.push('let go');
    });
    await made;
    expect(steps).toEqual(['made', 'let go']);
    await expect(site.delete('a', () => expect.unreachable())).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await site.front.close();
  });
});

describe('an image on storage that has become full', () => {
  it('is left well all the same, and its volume is there again', async () => {
    const image = path.join(testFolder('volume-site'), 'disk.img');
    await fs.writeFile(image, Buffer.alloc(SIZE, 1));
    let full = false;
    const createPending: typeof fileSystem.createPending = async (...args) => {
      if (full) throw new VhdkitError('NO_SPACE', 'full');
      return fileSystem.createPending(...args);
    };
    const open = async (): Promise<VolumeSite> => {
      const file = await fileSystem.open(image, { writable: true });
      const tight = { ...access, fileSystem: { ...fileSystem, createPending } };
      return VolumeSite.open(tight, image, new FileDevice(file, SIZE));
    };
    const site = await open();
    await site.create({ name: 'a' });
    full = true;
    await site.front.close();
    const again = await open();
    expect(await again.facts()).toMatchObject({ name: 'a', state: 'intact' });
    await again.front.close();
  });
});

describe('looking at a volume', () => {
  it('leaves nothing open when its table is gone', async () => {
    const { site, image } = await newSite();
    await site.create({ name: 'a' });
    await site.front.close();
    await fs.truncate(path.join(`${image}.vhdkit-volumes`, 'table'), 100);
    await expect(readPreservedVolume(fileSystem, image)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    expect(openBelow(path.dirname(image)) ?? []).toEqual([]);
  });
});

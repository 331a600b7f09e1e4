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

async function newSite(): Promise<{ site: VolumeSite; image: string }> {
  const image = path.join(testFolder('volume-site'), 'disk.img');
  await fs.writeFile(image, Buffer.alloc(SIZE, 1));
  const file = await fileSystem.open(image, { writable: true });
  return { site: await VolumeSite.open(access, image, new FileDevice(file, SIZE)), image };
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

/**
 * Snapshots of what is served, by clients that are not ours: of an image, and of a block device with a folder.
 */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemHost } from '../../src/operations/host.js';
import { type Serving, serve } from '../../src/operations/serve.js';
import { createSnapshot } from '../../src/operations/snapshot/create.js';
import { deleteSnapshots } from '../../src/operations/snapshot/delete.js';
import { exportSnapshot } from '../../src/operations/snapshot/export.js';
import { restoreSnapshot } from '../../src/operations/snapshot/restore.js';
import { loopDevice } from '../support/mounts.js';
import { canLoop, lacking } from '../support/requires.js';
import { testFolder } from '../support/tmp.js';

const run = promisify(execFile);
const MiB = 1024 * 1024;
const SIZE = 16 * MiB;

interface Site {
  control: string;
  serving: Serving;
  uri(name: string): string;
}

async function start(folder: string, image: string, snapshotFolder?: string): Promise<Site> {
  const socket = path.join(folder, 'nbd.sock');
  const control = path.join(folder, 'control.sock');
  const serving = await serve(systemHost(), {
    images: [{ path: image, name: 'disk' }],
    listen: [{ path: socket }],
    control,
    ...(snapshotFolder === undefined ? {} : { snapshotFolder }),
  });
  onTestFinished(() => stop(serving));
  return { control, serving, uri: (name) => `nbd+unix:///${name}?socket=${socket}` };
}

async function stop(serving: Serving): Promise<void> {
  serving.stop('shutdown');
  await serving.ended;
}

async function io({ uri }: Site, name: string, ...commands: string[]): Promise<void> {
  const words = commands.flatMap((each) => ['-c', each]);
  const readOnly = name.includes('@') ? ['-r'] : [];
  const { stdout, stderr } = await run('qemu-io', [...readOnly, '-f', 'raw', ...words, uri(name)]);
  expect(`${stdout}${stderr}`).not.toMatch(/verification failed|failed:|error/i);
}

const missing = lacking('qemu-io', 'nbdinfo', 'qemu-img');

describe.skipIf(missing !== '')(`snapshots of what is served${missing}`, () => {
  /** The same story for every kind of disk. */
  async function story(site: Site, image: string, folder: string): Promise<void> {
    const host = systemHost();
    const live = { path: image, control: site.control };
    await io(site, 'disk', 'write -P 1 0 2M', 'flush');
    await createSnapshot(host, { ...live, name: 'first' });
    await io(site, 'disk', 'write -P 2 64k 100k', 'write -z 1M 4k');
    await createSnapshot(host, { ...live, name: 'second' });
    await io(site, 'disk', 'write -P 3 0 2M', 'discard 8M 1M');
    await io(site, 'disk@first', 'read -P 1 0 2M');
    await io(site, 'disk@second', 'read -P 1 0 64k', 'read -P 2 64k 100k', 'read -P 0 1M 4k');
    const { stdout } = await run('nbdinfo', ['--map=vhdkit:dirty-second', site.uri('disk')]);
    expect(stdout).toMatch(/^\s+0\s+2097152\s+1\b/m);
    const copy = path.join(folder, 'second.vhdx');
    await exportSnapshot(host, { ...live, name: 'second', target: copy });
    await run('qemu-img', ['compare', '-f', 'vhdx', '-F', 'raw', copy, site.uri('disk@second')]);
    await deleteSnapshots(host, { ...live, names: ['second'] });
    await io(site, 'disk@first', 'read -P 1 0 2M');
    await restoreSnapshot(host, { ...live, name: 'first' });
    await io(site, 'disk', 'read -P 1 0 2M', 'write -P 9 0 4k');
    await io(site, 'disk@first', 'read -P 1 0 2M');
  }

  it('are exports of their own', async () => {
    const folder = testFolder('served');
    const image = path.join(folder, 'disk.img');
    await fs.writeFile(image, '');
    await fs.truncate(image, SIZE);
    const site = await start(folder, image);
    await story(site, image, folder);
    // What a restore keeps is an export, also of one that fails: nothing can be put into the place of a folder.
    const obstacle = path.join(`${image}.vhdkit-snapshots`, 'restore.settled');
    await fs.mkdir(obstacle);
    const live = { path: image, control: site.control };
    await expect(restoreSnapshot(systemHost(), { ...live, name: 'first', keep: 'kept' })).rejects.toThrow();
    await io(site, 'disk@kept', 'read -P 9 0 4k');
    await fs.rmdir(obstacle);
    await stop(site.serving);
    const again = await start(folder, image);
    await io(again, 'disk@first', 'read -P 1 0 2M');
    await io(again, 'disk', 'read -P 9 0 4k');
  });

  it.skipIf(!canLoop())('of a block device lie in a folder that is named', async () => {
    const folder = testFolder('served');
    const backing = path.join(folder, 'backing.img');
    await fs.writeFile(backing, '');
    await fs.truncate(backing, SIZE);
    const { path: device, detach } = loopDevice(backing);
    onTestFinished(detach);
    const kept = path.join(folder, 'snapshots');
    const site = await start(folder, device, kept);
    await story(site, device, folder);
    expect(await fs.readdir(kept)).toContain('manifest.json');
    await stop(site.serving);
    const again = await start(folder, device, kept);
    await io(again, 'disk@first', 'read -P 1 0 2M');
  });
});

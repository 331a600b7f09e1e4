/**
 * Two volumes of a served image, both used through NBD by a client that is not ours, and over restarts and
 * kills of the server.
 */
import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { controlPath, controlRequest } from '../../src/nbd/control-client.js';
import { create } from '../../src/operations/create.js';
import { systemHost } from '../../src/operations/host.js';
import { type Serving, serve } from '../../src/operations/serve.js';
import { createSnapshot } from '../../src/operations/snapshot/create.js';
import { deleteSnapshots } from '../../src/operations/snapshot/delete.js';
import { listSnapshots } from '../../src/operations/snapshot/list.js';
import { createVolume } from '../../src/operations/snapshot/live-volume.js';
import { restoreSnapshot } from '../../src/operations/snapshot/restore.js';
import { openTarget } from '../../src/operations/target.js';
import { write } from '../../src/operations/write.js';
import { tool } from '../support/requires.js';
import { testFolder } from '../support/tmp.js';

const run = promisify(execFile);
const MiB = 1024 * 1024;
const SIZE = 16 * MiB;

interface Site {
  folder: string;
  image: string;
  control: string;
  serving: Serving;
  uri(name: string): string;
}

async function start(folder: string, image: string): Promise<Site> {
  const socket = path.join(folder, 'nbd.sock');
  const control = path.join(folder, 'control.sock');
  const serving = await serve(systemHost(), {
    images: [{ path: image, name: 'disk' }],
    listen: [{ path: socket }],
    control,
  });
  onTestFinished(async () => {
    serving.stop('shutdown');
    await serving.ended;
  });
  return { folder, image, control, serving, uri: (name) => `nbd+unix:///${name}?socket=${socket}` };
}

async function stop({ serving }: Site): Promise<void> {
  serving.stop('shutdown');
  await serving.ended;
}

/** @throws when a pattern is not what was expected */
async function io({ uri }: Site, name: string, ...commands: string[]): Promise<void> {
  const { stdout, stderr } = await run('qemu-io', [
    '-f',
    'raw',
    ...commands.flatMap((each) => ['-c', each]),
    uri(name),
  ]);
  expect(`${stdout}${stderr}`).not.toMatch(/verification failed|failed:|error/i);
}

const volumes = (site: Site, method: 'GET' | 'POST', body?: object): Promise<unknown> =>
  controlRequest(site.control, {
    method,
    path: controlPath('v1', 'exports', 'disk', 'volumes'),
    ...(body ? { body } : {}),
  });

async function image(folder: string, format: 'raw' | 'vhdx'): Promise<string> {
  const file = path.join(folder, `disk.${format}`);
  await create(systemHost(), { path: file, format, size: SIZE });
  return file;
}

describe.skipIf(!tool('qemu-io'))('two volumes of a served image', () => {
  it.each(['raw', 'vhdx'] as const)('are both used, and are there again (%s)', async (format) => {
    const folder = testFolder('volumes');
    const file = await image(folder, format);
    let site = await start(folder, file);
    await io(site, 'disk', 'write -P 1 0 1M', 'flush');
    await volumes(site, 'POST', { name: 'before' });
    await io(site, 'disk', 'write -P 2 0 64k', 'write -P 3 512k 4k', 'write -z 700k 4k', 'flush');
    await io(site, 'disk@before', 'read -P 1 0 1M', 'write -P 4 900k 64k', 'flush');
    await io(
      site,
      'disk',
      'read -P 2 0 64k',
      'read -P 1 64k 448k',
      'read -P 3 512k 4k',
      'read -P 4 900k 64k',
    );
    expect(await volumes(site, 'GET')).toMatchObject({
      volumes: [{ name: 'before', export: 'disk@before', state: 'intact', copied: 3 }],
    });
    await stop(site);

    site = await start(folder, file);
    await io(site, 'disk@before', 'read -P 1 0 900k', 'read -P 4 900k 64k', 'read -P 1 964k 60k');
    await io(site, 'disk', 'read -P 2 0 64k', 'read -P 0 700k 4k');
    await stop(site);

    // Nothing else may change the image meanwhile …
    const input = (async function* () {
      yield new Uint8Array(512);
    })();
    await expect(write(systemHost(), { path: file, input })).rejects.toMatchObject({ code: 'HAS_SNAPSHOTS' });
    await expect(openTarget(systemHost(), file, { force: true })).rejects.toMatchObject({
      code: 'HAS_SNAPSHOTS',
    });
    // … and what does all the same is noticed.
    await fs.utimes(file, 1, 1);
    site = await start(folder, file);
    expect(await volumes(site, 'GET')).toMatchObject({ volumes: [{ name: 'before', state: 'broken' }] });
    await expect(
      run('qemu-io', ['-r', '-f', 'raw', '-c', 'read 0 4k', site.uri('disk@before')]),
    ).rejects.toThrow();
    await io(site, 'disk', 'read -P 2 0 64k');
    await controlRequest(site.control, {
      method: 'DELETE',
      path: controlPath('v1', 'exports', 'disk', 'volumes', 'before'),
    });
    expect(await volumes(site, 'GET')).toMatchObject({ volumes: [] });
    await stop(site);
    expect((await fs.readdir(folder)).filter((name) => name.includes('vhdkit'))).toEqual([]);
  });

  it('are made, listed and deleted like snapshots', async () => {
    const host = systemHost();
    const folder = testFolder('volumes');
    const file = await image(folder, 'raw');
    const site = await start(folder, file);
    const made = await createVolume(host, { path: file, control: site.control, name: 'before' });
    expect(made).toMatchObject({ chunkSize: 65536, snapshot: { name: 'before', kind: 'volume' } });
    await createSnapshot(host, { path: file, control: site.control, name: 'monday' });
    await io(site, 'disk@before', 'write -P 6 0 64k', 'flush');
    // What is written to the preserved volume shows in the live one, and not in the snapshot.
    await io(site, 'disk', 'read -P 6 0 64k');
    expect(await listSnapshots(host, { path: file })).toMatchObject({
      snapshots: [{ name: 'monday' }],
      volume: { name: 'before', state: 'intact' },
    });
    const removed = { path: file, names: ['before', 'monday'] };
    expect(await deleteSnapshots(host, { ...removed, control: site.control })).toMatchObject({
      snapshots: ['monday', 'before'],
    });
    await createVolume(host, { path: file, control: site.control, name: 'again' });
    await stop(site);
    expect(await deleteSnapshots(host, { path: file, names: ['again'] })).toMatchObject({
      snapshots: ['again'],
    });
    expect(await listSnapshots(host, { path: file })).toMatchObject({ snapshots: [], volume: null });
    expect((await fs.readdir(folder)).filter((name) => name.includes('vhdkit'))).toEqual([]);
  });

  it('are not passed by: the image is not put back under them, and their names are taken', async () => {
    const host = systemHost();
    const folder = testFolder('volumes');
    const file = await image(folder, 'raw');
    const site = await start(folder, file);
    const live = { path: file, control: site.control };
    await createSnapshot(host, { ...live, name: 'monday' });
    await createVolume(host, { ...live, name: 'before' });
    await io(site, 'disk', 'write -P 6 0 64k', 'flush');
    const refused = { code: 'HAS_SNAPSHOTS' };
    await expect(restoreSnapshot(host, { ...live, name: 'monday' })).rejects.toMatchObject(refused);
    await io(site, 'disk@before', 'read -P 0 0 64k');
    await expect(deleteSnapshots(host, { path: file, names: ['before'] })).rejects.toMatchObject({
      code: 'IN_USE',
      hint: expect.stringContaining('--control'),
    });
    await stop(site);
    await expect(restoreSnapshot(host, { path: file, name: 'monday' })).rejects.toMatchObject(refused);
    await expect(createSnapshot(host, { path: file, name: 'before' })).rejects.toMatchObject({
      code: 'ALREADY_EXISTS',
    });

    // One that is damaged is listed, and can be given up.
    await fs.truncate(path.join(`${file}.vhdkit-volumes`, 'table'), 100);
    expect(await listSnapshots(host, { path: file })).toMatchObject({
      volume: { name: 'before', state: 'broken', reason: 'damaged' },
    });
    expect(await deleteSnapshots(host, { path: file, names: [], all: true })).toMatchObject({
      snapshots: ['monday', 'before'],
    });
  });

  it('are deleted by the name of the export, too', async () => {
    const host = systemHost();
    const folder = testFolder('volumes');
    const site = await start(folder, await image(folder, 'vhdx'));
    const live = { path: 'disk', control: site.control };
    await createVolume(host, { ...live, name: 'before' });
    expect(await listSnapshots(host, { path: path.join(folder, 'disk.vhdx') })).toMatchObject({
      virtualSize: SIZE,
      image: 'in-use',
      volume: { name: 'before' },
    });
    expect(await deleteSnapshots(host, { ...live, names: ['before'] })).toMatchObject({
      snapshots: ['before'],
    });
    await createVolume(host, { ...live, name: 'again' });
    expect(await deleteSnapshots(host, { ...live, names: [], all: true })).toMatchObject({
      snapshots: ['again'],
    });
  });

  it('are refused by name where there can be none', async () => {
    const folder = testFolder('volumes');
    const site = await start(folder, await image(folder, 'raw'));
    await expect(volumes(site, 'POST', { name: 'a/b' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(volumes(site, 'POST', { name: 'a', blockSize: 100 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await volumes(site, 'POST', { name: 'a' });
    await expect(volumes(site, 'POST', { name: 'b' })).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    await expect(
      controlRequest(site.control, { method: 'GET', path: controlPath('v1', 'exports', 'none', 'volumes') }),
    ).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

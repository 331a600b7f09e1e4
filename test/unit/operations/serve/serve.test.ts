/** `serve` in this process: exports and names, who may write, overlays, sockets, and how it ends. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemTimer } from '../../../../src/base/timer.js';
import { openNbdExport } from '../../../../src/nbd/client/client.js';
import { controlRequest } from '../../../../src/nbd/control-client.js';
import { createChild } from '../../../../src/operations/create-child.js';
import { systemHost } from '../../../../src/operations/host.js';
import { exportUri, formatAddress, parseAddress } from '../../../../src/operations/serve/addresses.js';
import { type ServeOptions, type Serving, serve } from '../../../../src/operations/serve.js';
import { assertSound, contentOf, type ImageShape, makeImage } from '../../../support/device-kit.js';
import { makeCertificates } from '../../../support/nbd-kit.js';
import { tool } from '../../../support/requires.js';
import { must } from '../../../support/run.js';
import { testFolder } from '../../../support/tmp.js';

const MiB = 1 << 20;
const host = systemHost();
const RAW: ImageShape = { format: 'raw', type: 'fixed', size: 3 * MiB };
const VHDX: ImageShape = { format: 'vhdx', type: 'dynamic', size: 3 * MiB, blockSize: MiB };

async function started(options: Omit<ServeOptions, 'listen'>, socket: string): Promise<Serving> {
  const serving = await serve(host, { grace: 500, ...options, listen: [{ path: socket }] });
  onTestFinished(async () => {
    serving.stop('signal');
    await serving.ended;
  });
  return serving;
}

const open = (socket: string, name: string) =>
  openNbdExport({ address: { path: socket }, export: name, timer: systemTimer });

/** Writes a block of sevens at 1 MiB through a client. */
async function writeSevens(socket: string, name: string, flush = true): Promise<void> {
  const device = await open(socket, name);
  await device.write(Buffer.alloc(4096, 7), MiB);
  if (flush) await device.close();
}

async function stopped(serving: Serving): Promise<void> {
  serving.stop('signal');
  await serving.ended;
}

describe('addresses', () => {
  it('are read as people write them', () => {
    expect(parseAddress('unix:/run/a b.sock')).toEqual({ path: '/run/a b.sock' });
    expect(parseAddress('127.0.0.1:99')).toEqual({ host: '127.0.0.1', port: 99 });
    expect(parseAddress('[::1]:99')).toEqual({ host: '::1', port: 99 });
    expect(parseAddress('disk.example')).toEqual({ host: 'disk.example', port: 10809 });
    for (const text of ['', 'unix:', ':1', 'a:b', 'a:99999', '::1:9', '/run/x.sock', 'a b:1']) {
      expect(() => parseAddress(text), text).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
    expect(formatAddress({ host: '::1', port: 5 })).toBe('[::1]:5');
  });

  it('become URIs that name any export', () => {
    expect(exportUri({ host: '127.0.0.1', port: 10809 }, 'a', false)).toBe('nbd://127.0.0.1/a');
    expect(exportUri({ host: '0.0.0.0', port: 1 }, 'a/b c', true)).toBe('nbds://127.0.0.1:1/a%2Fb%20c');
    expect(exportUri({ path: '/r/s&t' }, 'd', false)).toBe('nbd+unix:///d?socket=/r/s%26t');
  });
});

describe('exports', () => {
  it('are named like their files or as wanted, slashes included, and the first is the default', async () => {
    const folder = testFolder();
    const socket = path.join(folder, 's');
    const { path: raw, content } = await makeImage(folder, RAW, 'one');
    const { path: vhdx } = await makeImage(folder, VHDX, 'two');
    const images = [{ path: raw }, { path: vhdx, name: 'shelf/two ü' }];
    const { start } = await started({ images, readOnly: true }, socket);
    expect(start.exports).toMatchObject([
      { name: 'one.img', format: 'raw', virtualSize: 3 * MiB, readOnly: true, overlay: null },
      { name: 'shelf/two ü', format: 'vhdx', type: 'dynamic' },
    ]);
    for (const name of ['', 'one.img', 'shelf/two ü']) {
      const device = await open(socket, name);
      const bytes = Buffer.alloc(4096);
      await device.read(bytes, 0);
      expect(bytes.equals(content.subarray(0, 4096))).toBe(true);
      expect(device.capabilities.writable).toBe(false);
      await device.close();
    }
    await expect(open(socket, 'shelf')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    if (!tool('nbdinfo')) return;
    const listed = JSON.parse(await stdout('nbdinfo', ['--json', '--list', start.exports[0]?.uris[0] ?? '']));
    const names = listed.exports.map((each: Record<string, unknown>) => each['export-name']);
    expect(names).toEqual(['one.img', 'shelf/two ü']);
    expect(await stdout('nbdinfo', ['--size', start.exports[1]?.uris[0] ?? ''])).toBe(`${3 * MiB}\n`);
  });

  it('of one name are refused, and everything is unlocked again', async () => {
    const folder = testFolder();
    const { path: raw } = await makeImage(folder, RAW);
    const { path: other } = await makeImage(path.join(folder, 'other'), RAW);
    const socket = path.join(folder, 's');
    const twice = serve(host, { images: [{ path: raw }, { path: other }], listen: [{ path: socket }] });
    await expect(twice).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    const again = await started({ images: [{ path: raw }, { path: other, name: 'other' }] }, socket);
    expect(again.start.exports).toHaveLength(2);
  });
});

async function stdout(command: string, args: string[]): Promise<string> {
  return (await must(command, args)).stdout.toString();
}

describe.each([
  ['raw', RAW],
  ['VHDX', VHDX],
  ['differencing VHD', { format: 'vhd', type: 'differencing', size: 3 * MiB } as ImageShape],
])('a %s image', (_name, shape) => {
  it('takes writes, is locked meanwhile, and has everything when the server has ended', async () => {
    const folder = testFolder();
    const { path: image, content } = await makeImage(folder, shape);
    const socket = path.join(folder, 's');
    const serving = await started({ images: [{ path: image, name: 'disk' }] }, socket);
    const second = serve(host, { images: [{ path: image }], listen: [{ path: path.join(folder, 't') }] });
    await expect(second).rejects.toMatchObject({ code: 'IN_USE', context: { pid: process.pid } });
    await writeSevens(socket, 'disk', false);
    await stopped(serving);
    content.fill(7, MiB, MiB + 4096);
    expect((await contentOf(image)).equals(content)).toBe(true);
    await assertSound(image);
    expect(readdirSync(folder).filter((name) => /lock|^s$|^t$/.test(name))).toEqual([]);
  });

  it('stays as it is with --read-only and with an overlay that is thrown away', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, shape);
    const before = readFileSync(image);
    const names = readdirSync(folder);
    const reading = await started(
      { images: [{ path: image, name: 'disk' }], readOnly: true },
      path.join(folder, 's'),
    );
    await expect(writeSevens(path.join(folder, 's'), 'disk')).rejects.toMatchObject({ code: 'READ_ONLY' });
    await stopped(reading);
    const over = await started(
      { images: [{ path: image, name: 'disk' }], overlay: 'temp' },
      path.join(folder, 's'),
    );
    await writeSevens(path.join(folder, 's'), 'disk');
    const device = await open(path.join(folder, 's'), 'disk');
    const bytes = Buffer.alloc(8192);
    await device.read(bytes, MiB - 2048);
    expect(bytes.subarray(2048, 2048 + 4096).equals(Buffer.alloc(4096, 7))).toBe(true);
    await device.close();
    expect(readdirSync(folder).filter((name) => name !== 's')).toEqual(names);
    await stopped(over);
    expect(readFileSync(image).equals(before)).toBe(true);
    expect(readdirSync(folder)).toEqual(names);
  });
});

describe('an overlay in a file', () => {
  it('is made, gone on with, and leaves the image as it is', async () => {
    const folder = testFolder();
    const { path: image, content } = await makeImage(folder, VHDX);
    const before = readFileSync(image);
    const overlay = { path: path.join(folder, 'try.vhdx') };
    const socket = path.join(folder, 's');
    const images = [{ path: image, name: 'disk' }];
    const serving = await started({ images, overlay }, socket);
    expect(serving.start.exports).toMatchObject([{ path: image, overlay: overlay.path, readOnly: false }]);
    await writeSevens(socket, 'disk');
    await stopped(serving);
    const again = await started({ images, overlay }, socket);
    const device = await open(socket, 'disk');
    const bytes = Buffer.alloc(4096);
    await device.read(bytes, MiB);
    expect(bytes.equals(Buffer.alloc(4096, 7))).toBe(true);
    await device.close();
    await stopped(again);
    expect(readFileSync(image).equals(before)).toBe(true);
    content.fill(7, MiB, MiB + 4096);
    expect((await contentOf(overlay.path)).equals(content)).toBe(true);
  });

  it('is refused where it belongs to another image, and over raw images', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, VHDX);
    const { path: other } = await makeImage(folder, VHDX, 'other');
    const { path: raw } = await makeImage(folder, RAW, 'raw');
    const overlay = { path: path.join(folder, 'try.vhdx') };
    await createChild(host, { path: overlay.path, parent: other, type: 'differencing' });
    const listen = [{ path: path.join(folder, 's') }];
    await expect(serve(host, { images: [{ path: image }], overlay, listen })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    const none = { path: path.join(folder, 'none.vhdx') };
    await expect(serve(host, { images: [{ path: raw }], overlay: none, listen })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      hint: expect.stringContaining('--overlay temp'),
    });
    expect(existsSync(none.path)).toBe(false);
  });
});

describe('an image that others depend on', () => {
  it('is served for reading, or with force', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, VHDX);
    await createChild(host, { path: path.join(folder, 'child.vhdx'), parent: image, type: 'differencing' });
    const socket = path.join(folder, 's');
    const images = [{ path: image }];
    await expect(serve(host, { images, listen: [{ path: socket }] })).rejects.toMatchObject({
      code: 'IN_USE',
    });
    await stopped(await started({ images, readOnly: true }, socket));
    await stopped(await started({ images, force: true }, socket));
  });
});

describe('a server', () => {
  it('answers on its control socket', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, VHDX);
    const [socket, control] = [path.join(folder, 's'), path.join(folder, 'c')];
    const serving = await started({ images: [{ path: image, name: 'a/b' }], control }, socket);
    const device = await open(socket, 'a/b');
    const ask = (method: 'GET' | 'POST', where: string, body?: object) =>
      controlRequest(control, { method, path: where, ...(body ? { body } : {}) });
    expect(await ask('GET', '/v1/exports')).toMatchObject({ exports: [{ name: 'a/b', connections: 1 }] });
    expect(await ask('GET', '/v1/connections')).toMatchObject({
      connections: [{ export: 'a/b', phase: 'transmission' }],
    });
    await device.write(Buffer.alloc(512, 9), 0);
    expect(await ask('POST', '/v1/flush', { export: 'a/b' })).toMatchObject({ flushed: ['a/b'] });
    await expect(ask('POST', '/v1/flush', { export: 'x' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(ask('POST', '/v1/flush', { export: 7 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await ask('POST', '/v1/shutdown')).toMatchObject({ stopping: true });
    expect(await serving.ended).toBe('shutdown');
    await expect(device.read(Buffer.alloc(512), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
    expect((await contentOf(image)).subarray(0, 512).equals(Buffer.alloc(512, 9))).toBe(true);
    expect(existsSync(control)).toBe(false);
  });

  it('ends when the last client has gone, if it is to', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, RAW);
    const socket = path.join(folder, 's');
    const serving = await started({ images: [{ path: image, name: 'd' }], exitOnDisconnect: true }, socket);
    const [first, second] = [await open(socket, 'd'), await open(socket, 'd')];
    await first.close();
    await second.write(Buffer.alloc(512, 1), 0);
    await second.close();
    expect(await serving.ended).toBe('disconnect');
  });

  it('makes what was written durable by itself after a while', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, VHDX);
    const socket = path.join(folder, 's');
    await started({ images: [{ path: image, name: 'd' }], flushAfter: 20 }, socket);
    const device = await open(socket, 'd');
    await device.write(Buffer.alloc(MiB, 5), 2 * MiB);
    // Nobody asks for a flush: still, a look at the file finds the new block.
    for (let tries = 0; tries < 200; tries += 1) {
      if ((await contentOf(image)).readUInt8(2 * MiB) === 5) break;
      await systemTimer.sleep(20);
    }
    expect((await contentOf(image)).readUInt8(2 * MiB)).toBe(5);
    await device.close();
  });

  it('takes the place of a socket that was left behind, and of nothing else', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, RAW);
    const { path: other } = await makeImage(folder, RAW, 'other');
    const socket = path.join(folder, 's');
    await started({ images: [{ path: image }] }, socket);
    const listen = [{ path: socket }];
    await expect(serve(host, { images: [{ path: other }], listen })).rejects.toMatchObject({
      code: 'IN_USE',
    });
    writeFileSync(path.join(folder, 'file'), 'mine');
    const taken = serve(host, { images: [{ path: other }], listen: [{ path: path.join(folder, 'file') }] });
    await expect(taken).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    expect(readFileSync(path.join(folder, 'file'), 'utf8')).toBe('mine');
  });

  it('refuses what makes no sense', async () => {
    const wrong = { code: 'INVALID_ARGUMENT' };
    await expect(serve(host, { images: [] })).rejects.toMatchObject(wrong);
    const images = [{ path: 'x' }, { path: 'y' }];
    await expect(serve(host, { images, readOnly: true, overlay: 'temp' })).rejects.toMatchObject(wrong);
    await expect(serve(host, { images, overlay: { path: 'z' } })).rejects.toMatchObject(wrong);
  });

  it.skipIf(!tool('openssl') || !tool('nbdinfo'))('encrypts, with certificates from files', async () => {
    const folder = testFolder();
    const { path: image } = await makeImage(folder, RAW);
    const socket = path.join(folder, 's');
    const { folder: pki } = makeCertificates();
    const file = (name: string): string => path.join(pki, name);
    const tls = { certificate: file('server-cert.pem'), key: file('server-key.pem') };
    const { start } = await started({ images: [{ path: image, name: 'd' }], tls }, socket);
    expect(start).toMatchObject({ tls: 'required' });
    expect(start.exports[0]?.uris[0]).toMatch(/^nbds\+unix:/);
    await expect(open(socket, 'd')).rejects.toThrow();
    const key = { certificate: file('server-key.pem'), key: file('server-key.pem') };
    const listen = [{ path: path.join(folder, 't') }];
    await expect(
      serve(host, { images: [{ path: image }], readOnly: true, tls: key, listen }),
    ).rejects.toBeDefined();
  });
});

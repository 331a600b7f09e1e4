/**
 * The NBD client passes the suite of block devices: before our own server, in several moods, and before servers of
 * other projects. What our server shows is thereby shown through two ends that have to agree with the suite.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe } from 'vitest';
import { KiB } from '../../src/base/bytes.js';
import { systemTimer } from '../../src/base/timer.js';
import type { BlockDevice } from '../../src/block/block-device.js';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { type OpenExportOptions, openNbdExport } from '../../src/nbd/client/client.js';
import type { NbdLimits } from '../../src/nbd/limits.js';
import { SlowDevice } from '../support/nbd-devices.js';
import { MiB, peer, serve } from '../support/nbd-kit.js';
import { lacking } from '../support/requires.js';
import { makeTempFolder } from '../support/tmp.js';
import { blockDeviceSuite, type DeviceSubject, type DeviceUnderTest } from './block-device.suite.js';

const SIZE = 3 * MiB;

function open(socket: string, name: string): Promise<BlockDevice> {
  const options: OpenExportOptions = { address: { path: socket }, export: name, timer: systemTimer };
  return openNbdExport(options);
}

async function subject(
  connect: () => Promise<BlockDevice>,
  check: () => Promise<void>,
): Promise<DeviceUnderTest> {
  let device = await connect();
  const reopen = async (): Promise<BlockDevice> => {
    await device.close();
    device = await connect();
    return device;
  };
  return { device, content: Buffer.alloc(SIZE), reopen, check };
}

/** Served by ourselves; `wrap` is put between the memory and the server. */
function ours(
  name: string,
  parts: { blockSize?: number; wrap?: (device: BlockDevice) => BlockDevice; limits?: Partial<NbdLimits> },
): DeviceSubject {
  const make = async (): Promise<DeviceUnderTest> => {
    const memory = new MemoryDevice(SIZE, { blockSize: parts.blockSize ?? 1 });
    const device = parts.wrap?.(memory) ?? memory;
    const served = await serve({ device, ...(parts.limits ? { limits: parts.limits } : {}) });
    return subject(
      () => open(served.socket, 'disk'),
      () => served.close(),
    );
  };
  return { name, make };
}

/** A server of another project. */
function theirs(command: string, args: (socket: string, file: string) => string[]): DeviceSubject {
  const make = async (): Promise<DeviceUnderTest> => {
    const folder = makeTempFolder('nbd-peer');
    const socket = path.join(folder, 's');
    const file = path.join(folder, 'disk.raw');
    writeFileSync(file, Buffer.alloc(SIZE));
    const stop = await peer(command, args(socket, file), socket);
    return subject(() => open(socket, ''), stop);
  };
  return { name: command, make };
}

describe('NBD client and server', () => {
  blockDeviceSuite(ours('memory', {}));
  blockDeviceSuite(ours('blocks of 4 KiB', { blockSize: 4096 }));
  const limits = { requestBytes: 1 * MiB, reserveBytes: 64 * KiB, connectionBytes: 1 * MiB, inFlight: 3 };
  blockDeviceSuite(
    ours('a device that answers late, and hardly any memory', {
      limits: { ...limits, sharedBytes: 1 * MiB },
      wrap: (d) => new SlowDevice(d),
    }),
  );
});

const needsNbdkit = lacking('nbdkit');
describe.skipIf(needsNbdkit)(`NBD client with nbdkit${needsNbdkit}`, () => {
  blockDeviceSuite(theirs('nbdkit', (socket) => ['-f', '-U', socket, 'memory', `${SIZE}`]));
});

const needsQemu = lacking('qemu-nbd');
describe.skipIf(needsQemu)(`NBD client with qemu-nbd${needsQemu}`, () => {
  blockDeviceSuite(
    theirs('qemu-nbd', (socket, file) => [
      '-t',
      '-f',
      'raw',
      '--discard=unmap',
      '-e',
      '4',
      '-k',
      socket,
      file,
    ]),
  );
});

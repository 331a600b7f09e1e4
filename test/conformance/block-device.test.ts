/** Every device of this package passes the suite. */
import { constants, copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect } from 'vitest';
import { systemTimer } from '../../src/base/timer.js';
import { ByteDevice } from '../../src/block/byte-device.js';
import { GuardedDevice } from '../../src/block/guarded-device.js';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { openChain } from '../../src/formats/chain.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import { createSpool } from '../../src/io/stream-spool.js';
import { readingDevice, scratchDevice } from '../../src/layers/compose.js';
import { ChainDevice } from '../../src/layers/image/chain-device.js';
import { FileDevice } from '../../src/layers/image/file-device.js';
import { assertSound, type ImageShape, makeImage, NEVER, openWritable } from '../support/device-kit.js';
import { loopDevice } from '../support/mounts.js';
import { canLoop } from '../support/requires.js';
import { makeTempFolder } from '../support/tmp.js';
import { blockDeviceSuite, type DeviceUnderTest } from './block-device.suite.js';

const MiB = 1 << 20;
const size = 4.5 * MiB + 4096;

type Made = Awaited<ReturnType<typeof makeImage>>;

/** Copies are cheap: each test gets one, with its parent, of the image that was made once. */
function copier(shape: ImageShape): () => Promise<Made> {
  let first: Promise<Made> | undefined;
  return async () => {
    first ??= makeImage(makeTempFolder('device'), shape);
    const { path: original, content } = await first;
    const folder = makeTempFolder('device');
    for (const name of readdirSync(path.dirname(original)))
      copyFileSync(
        path.join(path.dirname(original), name),
        path.join(folder, name),
        constants.COPYFILE_FICLONE,
      );
    return { path: path.join(folder, path.basename(original)), content: Buffer.from(content) };
  };
}

function imageMaker(shape: ImageShape): () => Promise<DeviceUnderTest> {
  const copy = copier(shape);
  return async () => {
    const made = await copy();
    let device = await openWritable(made.path);
    return {
      device,
      content: made.content,
      reopen: async () => {
        await device.close();
        device = await openWritable(made.path);
        return device;
      },
      check: () => assertSound(made.path),
    };
  };
}

const shapes: (ImageShape & { name: string })[] = [
  { name: 'raw file', format: 'raw', type: 'fixed', size: size + 77 },
  { name: 'VHD fixed', format: 'vhd', type: 'fixed', size },
  { name: 'VHD dynamic', format: 'vhd', type: 'dynamic', size },
  { name: 'VHD dynamic, 512 KiB blocks', format: 'vhd', type: 'dynamic', size, blockSize: MiB / 2 },
  { name: 'VHD differencing', format: 'vhd', type: 'differencing', size },
  { name: 'VHDX fixed', format: 'vhdx', type: 'fixed', size, blockSize: MiB },
  { name: 'VHDX dynamic', format: 'vhdx', type: 'dynamic', size, blockSize: MiB },
  {
    name: 'VHDX dynamic, 4096-byte sectors',
    format: 'vhdx',
    type: 'dynamic',
    size,
    blockSize: 2 * MiB,
    sectorSize: 4096,
  },
  { name: 'VHDX differencing', format: 'vhdx', type: 'differencing', size, blockSize: MiB },
];

blockDeviceSuite({
  name: 'memory',
  make: async () => ({ device: new MemoryDevice(size + 77), content: Buffer.alloc(size + 77) }),
});
blockDeviceSuite({
  name: 'memory in blocks of 512',
  make: async () => ({ device: new MemoryDevice(size, { blockSize: 512 }), content: Buffer.alloc(size) }),
});
blockDeviceSuite({
  name: 'bytes of memory in blocks of 4096',
  make: async () => ({
    device: new GuardedDevice(new ByteDevice(new MemoryDevice(size, { blockSize: 4096 }))),
    content: Buffer.alloc(size),
  }),
});
for (const { name, ...shape } of shapes) blockDeviceSuite({ name, make: imageMaker(shape) });

/** An overlay: what is below is found as it was when the test has ended. */
function overlayMaker(shape: ImageShape): () => Promise<DeviceUnderTest> {
  const copy = copier(shape);
  return async () => {
    const { path: file, content } = await copy();
    const before = readFileSync(file);
    const below = readingDevice(await openChain(nodeFileSystem, file), {
      timer: systemTimer,
      flushAfter: NEVER,
    });
    const scratch = await createSpool(path.dirname(file), 'scratch');
    return {
      device: scratchDevice(below, scratch, systemTimer),
      content,
      check: async () => expect(readFileSync(file).equals(before)).toBe(true),
    };
  };
}

blockDeviceSuite({
  name: 'overlay over a raw file',
  make: overlayMaker({ format: 'raw', type: 'fixed', size: size + 77 }),
});
blockDeviceSuite({
  name: 'overlay over a chain',
  make: overlayMaker({ format: 'vhdx', type: 'differencing', size, blockSize: MiB }),
});

blockDeviceSuite(
  {
    name: 'memory, reading',
    make: async () => ({ device: new MemoryDevice(MiB, { writable: false }), content: Buffer.alloc(MiB) }),
  },
  'reading',
);
for (const { name, ...shape } of shapes.filter(({ type }) => type !== 'fixed')) {
  const copy = copier(shape);
  const make = async (): Promise<DeviceUnderTest> => {
    const { path: file, content } = await copy();
    return { device: new ChainDevice(await openChain(nodeFileSystem, file)), content };
  };
  blockDeviceSuite({ name: `${name}, reading`, make }, 'reading');
}

describe.skipIf(!canLoop())('on a loop device', () => {
  blockDeviceSuite({
    name: 'block device',
    async make() {
      const file = path.join(makeTempFolder('device'), 'backing');
      const content = Buffer.alloc(5 * MiB, 0x5a);
      writeFileSync(file, content);
      const loop = loopDevice(file);
      const open = async (): Promise<FileDevice> =>
        new FileDevice(await nodeFileSystem.open(loop.path, { writable: true, exclusive: true }), {
          timer: systemTimer,
          flushAfter: NEVER,
        });
      let device = await open();
      return {
        device,
        content,
        reopen: async () => {
          await device.close();
          device = await open();
          return device;
        },
        check: async () => loop.detach(),
      };
    },
  });
});

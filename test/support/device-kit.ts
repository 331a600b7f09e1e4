/**
 * Devices for tests: images of every kind with something in them, opened as a server opens them.
 */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { systemTimer } from '../../src/base/timer.js';
import type { BlockDevice } from '../../src/block/block-device.js';
import { openChain } from '../../src/formats/chain.js';
import type { FormatId, ImageType } from '../../src/formats/disk-image.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import { FileDevice } from '../../src/layers/image/file-device.js';
import { ImageDevice } from '../../src/layers/image/image-device.js';
import { check } from '../../src/operations/check.js';
import { create } from '../../src/operations/create.js';
import { openEditableChain } from '../../src/operations/editable-chain.js';
import { systemHost } from '../../src/operations/host.js';
import { write } from '../../src/operations/write.js';
import { seededBytes } from './sample-disk.js';

const MiB = 1 << 20;
const host = systemHost();

export interface ImageShape {
  format: FormatId;
  type: ImageType;
  size: number;
  blockSize?: number;
  sectorSize?: 512 | 4096;
}

/** Longer than any test: flushes happen when they are asked for. */
export const NEVER = 2 ** 31 - 1;

/** Two stretches of bytes, the second across a border of blocks. */
function sample(size: number): { at: number; bytes: Buffer }[] {
  return [
    { at: 0, bytes: seededBytes(100_000, 3) },
    { at: Math.min(2 * MiB - 70_000, size - 140_000), bytes: seededBytes(140_000, 4) },
  ];
}

async function pour(
  file: string,
  pieces: readonly { at: number; bytes: Buffer }[],
  content: Buffer,
): Promise<void> {
  for (const { at, bytes } of pieces) {
    await write(host, { path: file, offset: at, input: [bytes] as never, force: true });
    bytes.copy(content, at);
  }
}

/** An image with content, and what it shows. Differencing images have some of it from the parent. */
export async function makeImage(
  folder: string,
  shape: ImageShape,
  name = 'disk',
): Promise<{ path: string; content: Buffer }> {
  const { format, type, size, blockSize, sectorSize } = shape;
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${name}.${format === 'raw' ? 'img' : format}`);
  const content = Buffer.alloc(size);
  const common = {
    format,
    ...(blockSize === undefined ? {} : { blockSize }),
    ...(sectorSize === undefined ? {} : { logicalSectorSize: sectorSize }),
  };
  const [first, second] = sample(size);
  if (type !== 'differencing') {
    await create(host, { path: file, size, type, ...common });
    await pour(file, sample(size), content);
  } else {
    const parent = path.join(folder, `${name}-base.${format}`);
    await create(host, { path: parent, size, type: 'dynamic', ...common });
    if (second) await pour(parent, [second], content);
    await create(host, {
      path: file,
      type,
      parent,
      format,
      ...(blockSize === undefined ? {} : { blockSize }),
    });
    if (first) await pour(file, [first], content);
  }
  return { path: file, content };
}

/** Opens an image for writing as a device. */
export async function openWritable(file: string, flushAfter = NEVER): Promise<BlockDevice> {
  const options = { timer: systemTimer, flushAfter };
  const opened = await openEditableChain(host, file);
  const close = (): Promise<void> => opened.close();
  if (opened.top.format === 'raw') return new FileDevice(opened.top.file, { ...options, close });
  return new ImageDevice(opened.chain, opened.top, { ...options, close });
}

/**
 * @param killed whoever wrote it had no time to empty the log
 * @throws when something is wrong with the image; space that belongs to nobody is not
 */
export async function assertSound(file: string, killed = false): Promise<void> {
  if (file.endsWith('.img')) return;
  const { findings } = await check(host, { path: file });
  const bad = findings.filter(
    ({ severity, code }) =>
      (severity === 'error' || severity === 'warning') && !(killed && code === 'VHDX_LOG_DIRTY'),
  );
  if (bad.length > 0)
    throw new Error(`${file}: ${bad.map(({ code, message }) => `${code} ${message}`).join('; ')}`);
}

/** What a new look at the image shows. */
export async function contentOf(file: string): Promise<Buffer> {
  const chain = await openChain(nodeFileSystem, file);
  try {
    const out = Buffer.alloc(chain.virtualSize);
    await readDisk(chain, out, 0);
    return out;
  } finally {
    await chain.close();
  }
}

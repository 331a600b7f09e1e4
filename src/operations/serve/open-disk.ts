/**
 * Opening the images that are served.
 *
 * Invariants: an image that clients can change is locked as long as it is served, and nobody else changes it or a
 * parent; one that they can't change is only read. What is behind an overlay is read only.
 */
import { dirname } from 'node:path';
import type { BlockDevice } from '../../block/block-device.js';
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { type ComposeOptions, readingDevice, writingDevice } from '../../layers/compose.js';
import { assertNoChildren, findChildren } from '../children.js';
import { assertNotHeld, openEditableChain } from '../editable-chain.js';
import type { Host } from '../host.js';
import { openWholeChain } from '../whole-chain.js';

export interface OpenDiskOptions extends ComposeOptions {
  format?: FormatId;
  readOnly: boolean;
  /** Open for writing although other images depend on it. */
  force: boolean;
}

/** A disk that can be served. Closing its device closes and unlocks everything. */
export interface OpenedDisk {
  /** The image that clients see; with an overlay in a file, that file. */
  readonly path: string;
  readonly format: FormatId;
  readonly type: ImageType;
  readonly readOnly: boolean;
  readonly device: BlockDevice;
  /** Where changes go when they do not go into the image. */
  readonly overlay: string | null;
  /** Of a raw disk that is open for writing: offsets of the file are those of the disk. */
  readonly rawFile?: RandomAccessFile;
}

async function openForReading(host: Host, path: string, options: OpenDiskOptions): Promise<OpenedDisk> {
  const { format } = options;
  const chain = await openWholeChain(host, path, format ? { format } : {});
  try {
    await assertNotHeld(host.fileSystem, chain.images);
  } catch (error) {
    await chain.close();
    throw error;
  }
  const { top } = chain;
  const device = readingDevice(chain, options);
  return { path, format: top.format, type: top.type, readOnly: true, device, overlay: null };
}

async function openForWriting(host: Host, path: string, options: OpenDiskOptions): Promise<OpenedDisk> {
  const { format, force } = options;
  const opened = await openEditableChain(host, path, {
    keepsPast: true,
    isServed: true,
    ...(format ? { format } : {}),
  });
  const { top } = opened;
  try {
    if (!force) {
      const real = (await host.fileSystem.realPath?.(path)) ?? path;
      const folders = [...new Set([dirname(path), dirname(real)])];
      const hint =
        'Serve it with --read-only, or with --overlay; or use --force if the children are to be given up.';
      assertNoChildren(top, await findChildren(host, top, folders), hint);
    }
  } catch (error) {
    await opened.close();
    throw error;
  }
  const device = writingDevice(opened, options);
  const raw = top.format === 'raw' ? { rawFile: top.file } : {};
  return { path, format: top.format, type: top.type, readOnly: false, device, overlay: null, ...raw };
}

/**
 * @throws IN_USE (another process writes it), PARENT_MISSING and whatever else opening a chain throws
 */
export function openDisk(host: Host, path: string, options: OpenDiskOptions): Promise<OpenedDisk> {
  return options.readOnly ? openForReading(host, path, options) : openForWriting(host, path, options);
}

/**
 * Disks whose image stays as it is, because changes go elsewhere.
 *
 * `temp`: into an unnamed scratch file that is gone with the process, however it ends; works over everything.
 * A file: into a differencing image, which is made when it is not there and gone on with when it is. Only over VHD
 * and VHDX: a raw image can't have children.
 *
 * Invariant: the image itself is open for reading only.
 */
import { dirname } from 'node:path';
import { VhdkitError } from '../../base/errors.js';
import { closeImages, walkChain } from '../../formats/chain.js';
import { sameFile } from '../../io/file-system.js';
import { createSpool } from '../../io/stream-spool.js';
import { scratchDevice } from '../../layers/compose.js';
import { createChild } from '../create-child.js';
import type { Host } from '../host.js';
import { type OpenDiskOptions, type OpenedDisk, openDisk } from './open-disk.js';

const OPERATION = 'open overlay';

/** @param folder for the scratch file; default: the image's */
export async function openOverTemp(
  host: Host,
  path: string,
  options: OpenDiskOptions,
  folder?: string,
): Promise<OpenedDisk> {
  const below = await openDisk(host, path, { ...options, readOnly: true });
  try {
    const scratch = await createSpool(folder ?? dirname(path), `the scratch file over ${path}`);
    return {
      ...below,
      readOnly: false,
      device: scratchDevice(below.device, scratch, host.timer),
      overlay: 'temp',
    };
  } catch (error) {
    await below.device.close();
    throw error;
  }
}

/** @throws INVALID_ARGUMENT when the file is there and is no child of the image; UNSUPPORTED for raw images */
export async function openOverFile(
  host: Host,
  path: string,
  overlay: string,
  options: OpenDiskOptions,
): Promise<OpenedDisk> {
  const { fileSystem } = host;
  if ((await fileSystem.kind(overlay)) === 'absent') await makeChild(host, path, overlay);
  else await assertChild(host, path, overlay);
  const { format: _, ...rest } = options;
  const disk = await openDisk(host, overlay, rest);
  return { ...disk, path, overlay };
}

async function makeChild(host: Host, path: string, overlay: string): Promise<void> {
  try {
    await createChild(host, { path: overlay, parent: path, type: 'differencing' });
  } catch (error) {
    const raw = error instanceof VhdkitError && error.code === 'UNSUPPORTED';
    if (!raw) throw error;
    throw new VhdkitError('UNSUPPORTED', error.message, {
      operation: OPERATION,
      context: error.context,
      cause: error,
      hint: 'Use --overlay temp, or convert the image to VHDX first.',
    });
  }
}

async function assertChild(host: Host, path: string, overlay: string): Promise<void> {
  const { fileSystem } = host;
  const wanted = await fileSystem.identity(path);
  const { images } = await walkChain(fileSystem, overlay, { links: 1 });
  try {
    const parent = images[1] && (await fileSystem.identity(images[1].file.path));
    if (wanted && parent && sameFile(wanted, parent)) return;
    throw new VhdkitError('INVALID_ARGUMENT', `${overlay} is there already, and is no child of ${path}`, {
      operation: OPERATION,
      context: { path: overlay, parent: path },
      hint: 'Name a file that is not there yet, or a differencing image made over this one.',
    });
  } finally {
    await closeImages(images);
  }
}

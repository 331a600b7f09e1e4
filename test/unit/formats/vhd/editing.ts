/**
 * Existing VHDs on a disk that records what is written, for the tests of changing them.
 */
import type { DiskImage } from '../../../../src/formats/disk-image.js';
import type { EditableImage, NewParentLink } from '../../../../src/formats/editable-image.js';
import { createVhd } from '../../../../src/formats/vhd/create.js';
import { editVhd } from '../../../../src/formats/vhd/edit.js';
import { openVhd } from '../../../../src/formats/vhd/open.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { CrashDisk, type Instant, openState } from '../../../support/crash-disk.js';
import { contentOf, countingRandom, createOptions } from './images.js';

export const NAME = 'disk.vhd';
const clock = { now: () => 1.7e12 };

export function linkTo(name: string, folder = '/images', id = 1): NewParentLink {
  return {
    ids: [`aabbccdd-eeff-0011-2233-4455667788${id.toString(16).padStart(2, '0')}`],
    absolutePath: `${folder}/${name}`,
    relativePath: folder === '/images' ? name : `..${folder}/${name}`,
    modified: 1.6e12,
  };
}

/** The bytes of a new image, changed by `fill` before it was flushed. */
export async function newImage(
  type: 'fixed' | 'dynamic' | 'differencing',
  size: number,
  blockSize: number,
  fill: (image: DiskImage) => Promise<void> = async () => undefined,
  link: NewParentLink = linkTo('parent.vhd'),
): Promise<Uint8Array> {
  const file = new MemoryFile();
  const options = { ...createOptions('dynamic', size, blockSize), type };
  const parent = { ...link, diskId: undefined };
  const image = await createVhd(file, type === 'differencing' ? { ...options, parent } : options);
  await fill(image);
  await image.flush();
  return file.bytes();
}

export async function editOn(disk: CrashDisk): Promise<EditableImage> {
  const file = await disk.fileSystem().open(NAME, { writable: true });
  return editVhd(file, { clock, random: countingRandom() });
}

export function editBytes(bytes: Uint8Array): { disk: CrashDisk; edit: () => Promise<EditableImage> } {
  const disk = new CrashDisk([[NAME, bytes]]);
  disk.start();
  return { disk, edit: () => editOn(disk) };
}

export function bytesOf(disk: CrashDisk): Buffer {
  return Buffer.from(disk.files().get(NAME) ?? []);
}

export async function openInstant({ state }: Instant): Promise<DiskImage> {
  return openVhd(await openState(state, NAME));
}

/** What an image shows, sectors of the parent as `0xee`. */
export async function shown(image: DiskImage): Promise<Buffer> {
  const content = await contentOf(image, 64 * 1024);
  for (let at = 0; at < image.virtualSize; at += 1 << 20) {
    for (const extent of await image.locate(at, Math.min(1 << 20, image.virtualSize - at))) {
      if (extent.state === 'absent') content.fill(0xee, extent.offset, extent.offset + extent.length);
    }
  }
  return content;
}

/** Findings that are worth more than a remark. */
export async function complaints(bytes: Uint8Array): Promise<string[]> {
  const image = await openVhd(new MemoryFile(bytes, NAME));
  const found = [...image.warnings, ...(await image.check())];
  return found
    .filter(({ severity }) => severity !== 'note')
    .map(({ code, message }) => `${code}: ${message}`);
}

/**
 * Making and opening sparse write-once devices.
 *
 * Invariants: a file appears under its name only when its header and its empty map are in it. A block device is
 * taken only when it is large enough, and when nothing is on it or replacing that was asked for; its header is
 * written last, so that one that was interrupted is no device.
 */
import { VhdkitError } from '../../../base/errors.js';
import type { RandomSource } from '../../../base/random.js';
import { openClaims } from '../../../io/claims.js';
import type { FileSystem } from '../../../io/file-system.js';
import type { RandomAccessFile } from '../../../io/random-access-file.js';
import { assertExpected, type Expectations, mismatch, notEmpty, type WriteOnceShape } from '../shape.js';
import {
  encodeHeader,
  HEADER_BYTES,
  layoutOf,
  newDeviceId,
  PAGE_BYTES,
  readLayout,
  type SparseLayout,
} from './layout.js';
import { emptyBits, encodePage, WRITTEN_PAGES } from './map-page.js';
import { SparseWriteOnceDevice } from './sparse-device.js';

/** Bytes at the beginning of a block device that must be zero for it to count as empty. */
const LOOK_BYTES = 1024 * 1024;

export interface SparseAccess {
  fileSystem: FileSystem;
  random: RandomSource;
}

/** Writes the map of a device without chunks. */
async function writeEmptyMap(file: RandomAccessFile, layout: SparseLayout): Promise<void> {
  const count = Math.min(layout.pages, WRITTEN_PAGES);
  const pages = new Uint8Array(count * PAGE_BYTES);
  for (let page = 0; page < count; page += 1)
    pages.set(encodePage(layout, page, emptyBits()), page * PAGE_BYTES);
  for (const offset of [layout.mapOffset, layout.confirmedOffset]) {
    await file.write(pages, offset);
    const rest = (layout.pages - count) * PAGE_BYTES;
    if (rest > 0) await file.zero(offset + pages.length, rest);
  }
}

async function writeHeader(file: RandomAccessFile, layout: SparseLayout): Promise<void> {
  const header = encodeHeader(layout);
  await file.write(header, 0);
  await file.write(header, HEADER_BYTES);
}

/** @throws ALREADY_EXISTS unless `overwrite`, TARGET_TOO_SMALL, WRITE_ONCE_MISMATCH (`not-empty`), NO_SPACE, … */
export async function createSparse(
  path: string,
  shape: WriteOnceShape,
  { fileSystem, random }: SparseAccess,
  overwrite = false,
): Promise<void> {
  const layout = layoutOf(
    shape,
    newDeviceId((count) => random.bytes(count)),
  );
  if ((await fileSystem.kind(path)) === 'device') {
    await layOutDevice(path, layout, fileSystem, overwrite);
    return;
  }
  const pending = await fileSystem.createPending(path, { overwrite });
  try {
    await writeEmptyMap(pending.file, layout);
    await writeHeader(pending.file, layout);
    await pending.file.truncate(layout.dataOffset + layout.size);
    await pending.publish();
  } catch (error) {
    await pending.discard();
    throw error;
  }
}

async function layOutDevice(
  path: string,
  layout: SparseLayout,
  fileSystem: FileSystem,
  overwrite: boolean,
): Promise<void> {
  const file = await fileSystem.open(path, { writable: true, exclusive: true });
  try {
    const needed = layout.dataOffset + layout.size;
    if (file.size() < needed) {
      throw new VhdkitError(
        'TARGET_TOO_SMALL',
        `${path} has ${file.size()} bytes: the write-once device of this disk needs ${needed}`,
        {
          operation: 'create write-once device',
          context: { path, length: needed },
          hint: 'Use a larger device, or a file: it takes only what is written to it.',
        },
      );
    }
    if (!overwrite && (await isUsed(file)))
      throw mismatch(path, 'not-empty', 'is not empty: there is something in its first MiB');
    await file.zero(0, 2 * HEADER_BYTES);
    await writeEmptyMap(file, layout);
    await file.flush();
    await writeHeader(file, layout);
    await file.flush();
  } finally {
    await file.close();
  }
}

async function isUsed(file: RandomAccessFile): Promise<boolean> {
  const bytes = new Uint8Array(Math.min(LOOK_BYTES, file.size()));
  await file.read(bytes, 0);
  return bytes.some((byte) => byte !== 0);
}

/** Leaves a block device without a write-once device: it counts as empty again. @throws PERMISSION_DENIED, IO_FAILED */
export async function eraseSparse(path: string, fileSystem: FileSystem): Promise<void> {
  const file = await fileSystem.open(path, { writable: true });
  try {
    await file.zero(0, Math.min(LOOK_BYTES, file.size()));
    await file.flush();
  } finally {
    await file.close();
  }
}

/** On failure the file is closed. @throws WRITE_ONCE_MISMATCH, IMAGE_CORRUPT, IN_USE, UNSUPPORTED, IO_FAILED */
export async function openSparse(
  file: RandomAccessFile,
  expected: Expectations,
  fileSystem: FileSystem,
): Promise<SparseWriteOnceDevice> {
  let device: SparseWriteOnceDevice | undefined;
  try {
    const layout = await readLayout(file);
    assertExpected(file.path, layout, expected);
    const claims = file.writable ? await openClaims(fileSystem, file) : undefined;
    device = new SparseWriteOnceDevice(file, layout, claims);
    if (expected.empty) for await (const _ of device.written()) throw notEmpty(file.path);
    return device;
  } catch (error) {
    await (device ?? file).close();
    throw error;
  }
}

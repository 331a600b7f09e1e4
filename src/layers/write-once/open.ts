/**
 * Making, opening and deleting write-once devices of any kind.
 *
 * Invariant: content says what a device is, as with images; a name is looked at only when it is new. Whoever opens a
 * device says what it is to be of, and gets another one never.
 */
import { MiB } from '../../base/bytes.js';
import { type ErrorCode, isVhdkitError, VhdkitError } from '../../base/errors.js';
import { type RandomSource, systemRandom } from '../../base/random.js';
import type { WriteOnceDevice, WriteOnceKind } from '../../block/write-once-device.js';
import { probeFormat } from '../../formats/registry.js';
import type { FileSystem } from '../../io/file-system.js';

import { nodeFileSystem } from '../../io/node-file-system.js';
import { createImageDevice, lookAtImageDevice, openImageDevice } from './image/store.js';
import {
  assertShape,
  DEFAULT_CHUNK_SIZE,
  type Expectations,
  MAX_CHUNK_SIZE,
  MIN_CHUNK_SIZE,
} from './shape.js';
import { HEADER_BYTES, hasMagic } from './sparse/layout.js';
import { createSparse, eraseSparse, openSparse } from './sparse/store.js';
import { isThin } from './thin/header.js';
import { createThin, deleteThin, lookAtThin, openThin } from './thin/store.js';

/** Kinds that are made here; a `remote` one is where another host has it. */
export type LocalKind = Exclude<WriteOnceKind, 'remote'>;

export interface WriteOnceAccess {
  fileSystem?: FileSystem;
  random?: RandomSource;
}

/** What a new device is to be. Sizes in bytes. */
export interface CreateWriteOnceOptions extends WriteOnceAccess {
  /** That of the primary. */
  size: number;
  /** Default: 64 KiB. */
  chunkSize?: number;
  /** Tells the primary from other disks; compared whenever the device is opened. */
  primaryId: string;
  /** Replace what is there. */
  overwrite?: boolean;
}

export interface OpenWriteOnceOptions extends WriteOnceAccess, Expectations {
  /** Default: true. */
  writable?: boolean;
}

/** Bytes that chunks of a kind can have. VHDX has no smaller blocks. */
export function chunkSizesOf(kind: LocalKind): { least: number; most: number } {
  return { least: kind === 'vhdx' ? MiB : MIN_CHUNK_SIZE, most: MAX_CHUNK_SIZE };
}

/**
 * Makes an empty device; `openWriteOnce` opens it.
 * @throws INVALID_ARGUMENT, ALREADY_EXISTS, TARGET_TOO_SMALL (a block device, a file system's limit),
 *   WRITE_ONCE_MISMATCH (`not-empty`: a block device that holds something), NO_SPACE, PERMISSION_DENIED, IO_FAILED
 */
export async function createWriteOnce(
  kind: LocalKind,
  path: string,
  options: CreateWriteOnceOptions,
): Promise<void> {
  const { size, primaryId, chunkSize = DEFAULT_CHUNK_SIZE, overwrite = false } = options;
  const shape = { size, chunkSize, primaryId };
  assertShape(path, shape);
  const access = {
    fileSystem: options.fileSystem ?? nodeFileSystem,
    random: options.random ?? systemRandom,
  };
  if (kind === 'sparse') return createSparse(path, shape, access, overwrite);
  if ((await access.fileSystem.kind(path)) === 'device')
    throw new VhdkitError(
      'INVALID_ARGUMENT',
      `${path} is a block device: of those only sparse ones are made`,
      {
        operation: 'create write-once device',
        context: { path },
        hint: 'Choose the kind sparse, or name a file.',
      },
    );
  if (kind === 'thin') return createThin(path, shape, access, overwrite);
  return createImageDevice(kind, path, shape, access, overwrite);
}

/**
 * Opens a device of any kind.
 * @throws NOT_FOUND, FORMAT_UNKNOWN (no write-once device), WRITE_ONCE_MISMATCH (not the one expected), IMAGE_CORRUPT,
 *   IN_USE (kinds that one process has at a time), UNSUPPORTED (a newer version), PERMISSION_DENIED, IO_FAILED
 */
export async function openWriteOnce(
  path: string,
  options: OpenWriteOnceOptions = {},
): Promise<WriteOnceDevice> {
  const { fileSystem = nodeFileSystem, random = systemRandom, writable = true } = options;
  const format = await kindOf(path, fileSystem);
  if (format === 'sparse') return openSparse(await fileSystem.open(path, { writable }), options, fileSystem);
  if (format === 'thin')
    return openThin(await fileSystem.open(path, { writable }), options, { fileSystem, random });
  return openImageDevice(path, format, { ...options, writable }, { fileSystem, random });
}

/**
 * Looks whether a device is there and the one that is expected. Changes nothing, takes no locks, and reads little: what
 * it says of a device that somebody writes to at this moment may be wrong.
 * @throws NOT_FOUND, FORMAT_UNKNOWN, WRITE_ONCE_MISMATCH, IMAGE_CORRUPT, UNSUPPORTED, PERMISSION_DENIED, IO_FAILED
 */
export async function lookAtWriteOnce(
  path: string,
  options: Expectations & { fileSystem?: FileSystem },
): Promise<void> {
  const { fileSystem = nodeFileSystem } = options;
  const format = await kindOf(path, fileSystem);
  const file = await fileSystem.open(path);
  if (format === 'sparse') {
    const device = await openSparse(file, options, fileSystem);
    return device.close();
  }
  try {
    if (format === 'thin') await lookAtThin(file, fileSystem);
    else await lookAtImageDevice(file, format, options);
  } finally {
    await file.close();
  }
}

/** What kind of device a path holds, by its content. @throws FORMAT_UNKNOWN, NOT_FOUND, IO_FAILED */
async function kindOf(path: string, fileSystem: FileSystem): Promise<LocalKind> {
  const file = await fileSystem.open(path);
  try {
    const head = new Uint8Array(HEADER_BYTES + 512);
    const bytes = head.subarray(0, await file.read(head, 0));
    // Either copy of the header is enough.
    if (hasMagic(bytes) || hasMagic(bytes.subarray(HEADER_BYTES))) return 'sparse';
    if (isThin(bytes)) return 'thin';
    const format = await probeFormat(file);
    if (format !== 'raw') return format;
  } finally {
    await file.close();
  }
  throw new VhdkitError('FORMAT_UNKNOWN', `${path} is no write-once device`, {
    operation: 'open write-once device',
    context: { path },
    hint: 'Name the device that was made for the snapshot.',
  });
}

/** Whether there is a device at a path, and it was made for that primary. @throws IN_USE, PERMISSION_DENIED, IO_FAILED */
export async function isWriteOnceOf(
  path: string,
  primaryId: string,
  access: WriteOnceAccess = {},
): Promise<boolean> {
  try {
    const device = await openWriteOnce(path, { ...access, primaryId, writable: false });
    await device.close();
    return true;
  } catch (error) {
    if (isVhdkitError(error) && NOT_ONE.has(error.code)) return false;
    throw error;
  }
}

/** What says that a path holds no device, or another one. */
const NOT_ONE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_FOUND',
  'NOT_A_DISK',
  'FORMAT_UNKNOWN',
  'WRITE_ONCE_MISMATCH',
  'IMAGE_CORRUPT',
  'UNSUPPORTED',
]);

/**
 * Removes a device; a block device is left without one.
 * @throws IN_USE while a process has it open for writing, NOT_FOUND, PERMISSION_DENIED
 */
export async function deleteWriteOnce(path: string, access: WriteOnceAccess = {}): Promise<void> {
  const fileSystem = access.fileSystem ?? nodeFileSystem;
  const lock = await fileSystem.lock(path);
  try {
    // One that can't be recognised any more is removed all the same.
    const kind = await kindOf(path, fileSystem).catch(() => undefined);
    if ((await fileSystem.kind(path)) === 'device') await eraseSparse(path, fileSystem);
    else if (kind === 'thin') await deleteThin(path, fileSystem);
    else await fileSystem.remove(path);
  } finally {
    await lock.release();
  }
}

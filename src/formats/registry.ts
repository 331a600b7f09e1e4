/**
 * The formats, and how a file's format is found out.
 *
 * Invariant: content decides, the name is only used for files that do not exist yet. Both the head and
 * the tail are looked at, because a fixed VHD has its only signature at the end. Contradicting evidence is
 * never resolved by guessing: a guest controls the first and last bytes of its disk.
 *
 * The only place that knows the formats one by one.
 */
import { VhdkitError } from '../base/errors.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type {
  CreateImageOptions,
  DiskImage,
  FormatDriver,
  FormatId,
  OpenImageOptions,
} from './disk-image.js';
import type { EditableImage, WriteAccess } from './editable-image.js';
import { foreignContainer } from './foreign.js';
import { rawDriver } from './raw/driver.js';
import type { RepairAccess, StructureRepair } from './repair.js';
import { vhdDriver } from './vhd/driver.js';
import { probeVhd } from './vhd/probe.js';
import { isVhdx, vhdxDriver } from './vhdx/driver.js';

const DRIVERS: Readonly<Record<FormatId, FormatDriver>> = {
  raw: rawDriver,
  vhd: vhdDriver,
  vhdx: vhdxDriver,
};

const HEAD_BYTES = 128 * 1024;
const TAIL_BYTES = 1024;

const ALIASES: Readonly<Record<string, FormatId>> = {
  raw: 'raw',
  lun: 'raw',
  img: 'raw',
  bin: 'raw',
  dd: 'raw',
  vhd: 'vhd',
  vpc: 'vhd',
  avhd: 'vhd',
  vhdx: 'vhdx',
  avhdx: 'vhdx',
};

/** The format of a name used on command lines (`vpc`, `lun`), or undefined. */
export function formatByName(name: string): FormatId | undefined {
  return ALIASES[name.toLowerCase()];
}

/** The format that a path's extension stands for, or undefined. For new files only. */
export function formatByExtension(path: string): FormatId | undefined {
  const match = /\.([^./\\]+)$/.exec(path);
  return match?.[1] ? formatByName(match[1]) : undefined;
}

function refuse(path: string, message: string, hint: string): VhdkitError {
  return new VhdkitError('FORMAT_UNKNOWN', `${path} ${message}`, {
    operation: 'recognise format',
    context: { path },
    hint,
  });
}

/**
 * Finds out the format by content. What looks like nothing known is raw.
 * @throws FORMAT_UNKNOWN when the evidence is contradictory or speaks for a container of another kind
 */
export async function probeFormat(file: RandomAccessFile): Promise<FormatId> {
  const size = file.size();
  const head = Buffer.alloc(Math.min(HEAD_BYTES, size));
  const tail = Buffer.alloc(Math.min(TAIL_BYTES, size));
  const headBytes = head.subarray(0, await file.read(head, 0));
  const tailBytes = tail.subarray(0, await file.read(tail, size - tail.length));
  const vhd = probeVhd(headBytes, tailBytes, size);
  const vhdx = isVhdx(headBytes);
  if (vhdx && vhd && vhd.where !== 'start' && vhd.checksumOk) {
    throw refuse(
      file.path,
      'begins like a VHDX and ends like a VHD',
      'Say which it is with --from vhdx, --from vhd or --from raw.',
    );
  }
  if (vhdx) return 'vhdx';
  if (vhd) return 'vhd';
  const foreign = foreignContainer(headBytes);
  if (foreign) {
    throw refuse(
      file.path,
      `is ${foreign}, which vhdkit does not read`,
      'Unpack or convert it first; if it really is a raw disk that begins like this, say --from raw.',
    );
  }
  return 'raw';
}

/**
 * Opens an image for reading; `format` skips the probe. On failure the file is closed.
 * @throws FORMAT_UNKNOWN, IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED
 */
export async function openImage(
  file: RandomAccessFile,
  options: OpenImageOptions & { format?: FormatId } = {},
): Promise<DiskImage> {
  try {
    const format = options.format ?? (await probeFormat(file));
    return await DRIVERS[format].open(file, options);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * Opens an existing image for writing. On failure the file is closed.
 * @throws FORMAT_UNKNOWN, IMAGE_CORRUPT, UNSUPPORTED, READ_ONLY, IO_FAILED
 */
export async function editImage(
  file: RandomAccessFile,
  access: WriteAccess,
  options: { format?: FormatId } = {},
): Promise<EditableImage> {
  try {
    const format = options.format ?? (await probeFormat(file));
    return await DRIVERS[format].edit(file, access);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Lays out a new image in an empty file or on a device. It is complete after its `flush`. */
export async function createImage(
  file: RandomAccessFile,
  format: FormatId,
  options: CreateImageOptions,
): Promise<DiskImage> {
  return DRIVERS[format].create(file, options);
}

/**
 * Goes on building an image that an interrupted run left in `file`, with the same options.
 * @throws IMAGE_CORRUPT when the file can't be that
 */
export async function resumeImage(
  file: RandomAccessFile,
  format: FormatId,
  options: CreateImageOptions,
): Promise<DiskImage> {
  return DRIVERS[format].resume(file, options);
}

/**
 * Puts right what is wrong with the structures of an image; undefined for formats without structures.
 * @throws IMAGE_CORRUPT, UNSUPPORTED (what leaves nothing to go on with), READ_ONLY, NO_SPACE, IO_FAILED
 */
export async function repairImage(
  file: RandomAccessFile,
  format: FormatId,
  access: RepairAccess,
): Promise<StructureRepair | undefined> {
  return DRIVERS[format].repair?.(file, access);
}

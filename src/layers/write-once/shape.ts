/**
 * What a write-once device is for: which primary, how large, in what chunks; judged in one place for all kinds.
 *
 * Invariant: a device is used only for the primary it was made for. Sizes are those of the contract
 * (block/write-once-device.ts), checked when a device is made and when one is found.
 */
import { formatSize, isPowerOfTwo, KiB, MiB, TiB } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';

export const MIN_CHUNK_SIZE = 4 * KiB;
export const MAX_CHUNK_SIZE = 16 * MiB;
export const DEFAULT_CHUNK_SIZE = 64 * KiB;
/** The largest disk that any format here has; the map of one in chunks of 4 KiB is 4 GiB. */
export const MAX_SIZE = 64 * TiB;
/** Bytes of UTF-8. */
export const MAX_PRIMARY_ID = 512;

/** Sizes in bytes. */
export interface WriteOnceShape {
  size: number;
  chunkSize: number;
  primaryId: string;
}

/** What whoever opens a device expects of it; what is left out is not looked at. */
export interface Expectations extends Partial<WriteOnceShape> {
  /** Nothing may have been written to it. */
  empty?: boolean;
}

/** Why a shape is impossible, or undefined. */
export function shapeProblem({ size, chunkSize, primaryId }: WriteOnceShape): string | undefined {
  if (!Number.isSafeInteger(size) || size <= 0 || size > MAX_SIZE)
    return `a size of ${size} bytes (1 byte to 64 TiB are possible)`;
  if (!isPowerOfTwo(chunkSize) || chunkSize < MIN_CHUNK_SIZE || chunkSize > MAX_CHUNK_SIZE)
    return `chunks of ${chunkSize} bytes (powers of two from 4 KiB to 16 MiB are possible)`;
  const idBytes = Buffer.byteLength(primaryId);
  if (idBytes === 0 || idBytes > MAX_PRIMARY_ID)
    return `an id of the primary of ${idBytes} bytes (1 to ${MAX_PRIMARY_ID} are possible)`;
  return undefined;
}

/** @throws INVALID_ARGUMENT */
export function assertShape(path: string, shape: WriteOnceShape): void {
  const problem = shapeProblem(shape);
  if (problem === undefined) return;
  throw new VhdkitError('INVALID_ARGUMENT', `${path}: a write-once device can't have ${problem}`, {
    operation: 'create write-once device',
    context: { path },
    hint: 'Chunks of 64K suit most disks.',
  });
}

export type Mismatch = 'primary' | 'size' | 'chunk-size' | 'not-empty';

/** The refusal of a device that is not the one wanted. */
export function mismatch(path: string, reason: Mismatch, message: string): VhdkitError {
  return new VhdkitError('WRITE_ONCE_MISMATCH', `${path} ${message}`, {
    operation: 'open write-once device',
    context: { path, reason },
  });
}

/** @throws WRITE_ONCE_MISMATCH where the device is not what is expected; emptiness is asked of the device itself */
export function assertExpected(path: string, found: WriteOnceShape, expected: Expectations): void {
  if (expected.primaryId !== undefined && found.primaryId !== expected.primaryId)
    throw mismatch(
      path,
      'primary',
      `was made for another disk: ${found.primaryId}, not ${expected.primaryId}`,
    );
  if (expected.size !== undefined && found.size !== expected.size) {
    const how = found.size < expected.size ? 'too small' : 'too large';
    throw mismatch(path, 'size', `is ${how}: it has ${found.size} bytes, the primary ${expected.size}`);
  }
  if (expected.chunkSize !== undefined && found.chunkSize !== expected.chunkSize)
    throw mismatch(
      path,
      'chunk-size',
      `has chunks of ${formatSize(found.chunkSize)}, not of ${formatSize(expected.chunkSize)}`,
    );
}

export function notEmpty(path: string): VhdkitError {
  return mismatch(path, 'not-empty', 'is not empty: chunks have been written to it');
}

export function chunkCount({ size, chunkSize }: { size: number; chunkSize: number }): number {
  return Math.ceil(size / chunkSize);
}

/** Bytes of a chunk: the last one ends with the device. */
export function chunkLength({ size, chunkSize }: { size: number; chunkSize: number }, chunk: number): number {
  return Math.min(chunkSize, size - chunk * chunkSize);
}

/** Codes of what can be wrong with a device's own structures. */
export type WriteOnceDefect =
  | 'WRITE_ONCE_HEADER_DAMAGED'
  | 'WRITE_ONCE_MAP_DAMAGED'
  | 'WRITE_ONCE_CUT_OFF'
  | 'WRITE_ONCE_BLOCK_IN_PART';

/** IMAGE_CORRUPT with the defect's code. */
export function writeOnceCorrupt(
  defect: WriteOnceDefect,
  message: string,
  context: { path: string; offset?: number },
): VhdkitError {
  return new VhdkitError('IMAGE_CORRUPT', `${context.path}: ${message}`, {
    operation: 'read write-once device',
    context: { ...context, defect },
    hint: 'What the snapshot preserved there is lost; take the disk from a backup.',
  });
}

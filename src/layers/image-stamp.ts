/**
 * What tells an image that was changed by something else from one that was left alone.
 */
import type { RandomAccessFile } from '../io/random-access-file.js';

export interface ImageStamp {
  /** Bytes of the file. */
  size: number;
  /** Nanoseconds since 1970, as text: more than a number holds. */
  mtime: string;
}

/** Undefined for block devices, which have no times. */
export function stampOf(file: RandomAccessFile): ImageStamp | undefined {
  const print = file.fingerprint();
  return print && { size: Number(print.size), mtime: String(print.mtime) };
}

export function isSameStamp(a: ImageStamp, b: ImageStamp): boolean {
  return a.size === b.size && a.mtime === b.mtime;
}

/** Of what a record says. */
export function isImageStamp(value: unknown): value is ImageStamp {
  if (typeof value !== 'object' || value === null) return false;
  const { size, mtime } = value as Record<string, unknown>;
  return (
    Number.isSafeInteger(size) && Number(size) >= 0 && typeof mtime === 'string' && /^-?\d{1,30}$/.test(mtime)
  );
}

/**
 * What is asked of a file before a token is bound to it.
 */
import { VhdkitError } from '../base/errors.js';
import type { ByteRange, FileFingerprint, RandomAccessFile } from '../io/random-access-file.js';

/** @throws UNSUPPORTED for files whose changes can't be noticed */
export function takeFingerprint(file: RandomAccessFile): FileFingerprint {
  const fingerprint = file.fingerprint();
  if (fingerprint) return fingerprint;
  throw new VhdkitError('UNSUPPORTED', `Changes of ${file.path} can't be noticed`, {
    operation: 'bind token',
    context: { path: file.path },
    hint: 'Tokens for others need a regular file: copy the device into an image first (vhdkit convert).',
  });
}

/**
 * The part of the range that is in the file.
 * @param fingerprint taken before; a range within what it says needs no other look, since a file that is shorter
 *   meanwhile has changed
 * @throws OUT_OF_RANGE when it starts behind the end
 */
export function clipToFile(file: RandomAccessFile, range: ByteRange, fingerprint?: FileFingerprint): number {
  if (fingerprint && range.offset + range.length <= fingerprint.size) return range.length;
  const size = file.size();
  if (range.offset <= size) return Math.min(range.length, size - range.offset);
  throw new VhdkitError('OUT_OF_RANGE', `${file.path} ends at ${size} bytes`, {
    operation: 'bind token',
    context: { path: file.path, offset: range.offset, length: range.length },
  });
}

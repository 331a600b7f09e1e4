/**
 * What goes wrong in an LMDB token store, in words of token stores.
 *
 * Invariant: what is an error of vhdkit already and says its reason stays as it is.
 */
import { isVhdkitError, systemCode } from '../../base/errors.js';
import { storeError } from './store-errors.js';

/** System codes of LMDB's own errors, as Node does not know them. */
const LMDB_FAILURES: readonly [RegExp, Parameters<typeof storeError>[0], string][] = [
  [/MDB_MAP_FULL|No space left|ENOSPC|quota/i, 'full', 'there is no room for more'],
  [/Permission denied|Read-only file system/i, 'read-only', 'it may not be written to'],
  [/MDB_VERSION_MISMATCH/, 'newer-version', "its format is not this LMDB's"],
  [/MDB_(INVALID|CORRUPTED|PAGE_NOTFOUND|PANIC|BAD_)/, 'damaged', 'its data file is damaged'],
];

export function translate(error: unknown, folder: string): unknown {
  if (isVhdkitError(error)) {
    if (error.context.reason !== undefined) return error;
    if (error.code === 'PERMISSION_DENIED')
      return storeError('read-only', folder, 'it may not be written to', error);
    if (error.code === 'NO_SPACE') return storeError('full', folder, 'there is no room for more', error);
    if (error.code === 'ALREADY_EXISTS' || error.code === 'NOT_FOUND')
      return storeError('not-a-store', folder, 'something in its path is no folder', error);
    return error;
  }
  if (error instanceof RangeError) return error;
  const text = error instanceof Error ? `${systemCode(error) ?? ''} ${error.message}` : String(error);
  for (const [pattern, reason, detail] of LMDB_FAILURES)
    if (pattern.test(text)) return storeError(reason, folder, detail, error);
  return storeError('failed', folder, text.trim(), error);
}

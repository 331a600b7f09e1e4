/**
 * Names of snapshots: they become part of export names, of command lines and of messages.
 */
import { VhdkitError } from '../base/errors.js';

const MAX_NAME = 64;
const ALLOWED = /^[\p{L}\p{N}][\p{L}\p{N}._+-]*$/u;

/** @throws INVALID_ARGUMENT */
export function assertSnapshotName(name: string): void {
  if (ALLOWED.test(name) && name.length <= MAX_NAME) return;
  throw new VhdkitError('INVALID_ARGUMENT', `Not a name for a snapshot: '${name.slice(0, 2 * MAX_NAME)}'`, {
    operation: 'name snapshot',
    hint: `Use up to ${MAX_NAME} letters, digits, and . _ + - between them; no slashes, blanks or @.`,
  });
}

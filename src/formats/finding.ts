/**
 * Findings: what is wrong or remarkable about an image.
 *
 * Invariant: the code is stable and names one defect; `offset` is the byte offset in the image's file.
 * A finding that makes the image unusable becomes an IMAGE_CORRUPT error through `corrupt`.
 */
import { VhdkitError } from '../base/errors.js';

/**
 * `error`: contents are wrong or can't be trusted. `warning`: readable, but a copy or checksum is damaged
 * or a rule is broken. `leak`: space that nothing uses. `note`: remarkable, harmless.
 */
export type Severity = 'error' | 'warning' | 'leak' | 'note';

export interface Finding {
  code: string;
  severity: Severity;
  message: string;
  offset?: number;
  repairable: boolean;
}

export interface CorruptDetails {
  path: string;
  offset?: number;
  length?: number;
  hint?: string;
  cause?: unknown;
}

/** The error for a defect that leaves nothing to go on with. */
export function corrupt(defect: string, message: string, details: CorruptDetails): VhdkitError {
  const { path, offset, length, hint, cause } = details;
  const where = offset === undefined ? '' : ` at offset ${offset}`;
  return new VhdkitError('IMAGE_CORRUPT', `${path}: ${message}${where}`, {
    operation: 'read image structures',
    context: {
      path,
      defect,
      ...(offset === undefined ? {} : { offset }),
      ...(length === undefined ? {} : { length }),
    },
    hint: hint ?? 'Restore the image from a backup, or run `vhdkit info` for what is still readable.',
    ...(cause === undefined ? {} : { cause }),
  });
}

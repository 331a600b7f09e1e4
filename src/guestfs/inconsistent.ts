/**
 * How free-space readers say that a file system contradicts itself.
 *
 * Invariant: one error, told apart by its defect code, so that a reader can turn what it finds while it
 * judges a volume into a reason to keep it, and what it finds later (the disk changed meanwhile) into a
 * failure of the walk. Other errors (storage that fails) pass through untouched.
 */
import { VhdkitError } from '../base/errors.js';
import type { FreeSpaceAnswer } from './free-space.js';

export const GUEST_DEFECT = 'GUEST_FILE_SYSTEM_INCONSISTENT';

/**
 * @param reason what contradicts what, as the rest of "it is kept because …"
 * @param offset byte offset on the disk
 */
export function inconsistent(reason: string, offset?: number): VhdkitError {
  return new VhdkitError('IMAGE_CORRUPT', `The guest's file system contradicts itself: ${reason}`, {
    operation: 'read free space',
    context: { defect: GUEST_DEFECT, reason, ...(offset === undefined ? {} : { offset }) },
    hint: 'Check the file system inside the guest (fsck, chkdsk), shut it down, then try again.',
  });
}

/** The reason of an `inconsistent` error; undefined for every other error. */
export function reasonOf(error: unknown): string | undefined {
  if (!(error instanceof VhdkitError) || error.context.defect !== GUEST_DEFECT) return undefined;
  return String(error.context.reason);
}

/** Runs a reader's judgement; a contradiction found on the way becomes a kept volume. */
export async function keptIfInconsistent(
  kind: string,
  judge: () => Promise<FreeSpaceAnswer>,
): Promise<FreeSpaceAnswer> {
  try {
    return await judge();
  } catch (error) {
    const reason = reasonOf(error);
    if (reason === undefined) throw error;
    return { status: 'kept', kind, reason };
  }
}

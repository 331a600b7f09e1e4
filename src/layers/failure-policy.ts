/**
 * What happens to a write whose old content can't be kept for a snapshot or a preserved volume: the same words
 * on the command line, in control requests and in records.
 */

/** The write fails; or the snapshot is given up and the write goes on. */
export const FAILURE_POLICIES = ['fail-writes', 'break-snapshot'] as const;

export type FailurePolicy = (typeof FAILURE_POLICIES)[number];

export function isFailurePolicy(value: unknown): value is FailurePolicy {
  return FAILURE_POLICIES.some((each) => each === value);
}

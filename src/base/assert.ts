/**
 * Assertions for programmer mistakes.
 *
 * Invariant: nothing that depends on input, files or users is asserted; such things are VhdkitErrors or
 * findings. A BugError is never caught to carry on.
 */

export class BugError extends Error {
  constructor(message: string) {
    super(`Bug in vhdkit: ${message}`);
    this.name = 'BugError';
  }
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new BugError(message);
}

/** A byte offset or length: a safe, non-negative integer. */
export function assertBytes(value: number, name: string): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new BugError(`${name} is not a byte count: ${value}`);
}

/**
 * Wrong usage of the command line: what the person typed makes no sense, whatever the images hold.
 *
 * Invariant: always leads to exit code 64 and the code `USAGE`; carries what to type instead.
 * Not here: failures of operations (VhdkitError) and the texts of oclif's own parse errors (failure.ts).
 */
export class UsageError extends Error {
  readonly hint: string;

  constructor(message: string, hint: string) {
    super(message);
    this.name = 'UsageError';
    this.hint = hint;
  }
}

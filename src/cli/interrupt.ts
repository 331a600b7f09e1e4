/**
 * Ctrl-C, SIGTERM and SIGHUP: the first asks the operation to stop cleanly, the second ends at once.
 *
 * Invariant: after the first signal the operation's AbortSignal is aborted and nothing else happens, so
 * that it can take its unfinished file away; exit codes come from exit-codes.ts.
 */
import { exitCodeOfSignal } from './exit-codes.js';

const WATCHED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interrupt {
  readonly #controller = new AbortController();
  #received: string | undefined;

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Name of the first signal received. */
  get received(): string | undefined {
    return this.#received;
  }

  readonly #handle = (name: string): void => {
    if (this.#received) process.exit(exitCodeOfSignal(name));
    this.#received = name;
    if (process.stderr.isTTY) process.stderr.write('\nStopping; press Ctrl-C again to end at once.\n');
    this.#controller.abort(new Error(name));
  };

  watch(): void {
    for (const name of WATCHED) process.on(name, this.#handle);
  }

  unwatch(): void {
    for (const name of WATCHED) process.off(name, this.#handle);
  }
}

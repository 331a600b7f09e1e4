/**
 * A file whose flushes are believed only as long as none has failed.
 *
 * A system that could not write something says so once and forgets it, so a second flush would succeed over what is
 * lost. Invariant: after a flush that failed there is no other.
 */
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';

export class SoundFile {
  readonly file: RandomAccessFile;
  #failure: VhdkitError | undefined;
  #begun = 0;
  #finished = 0;

  constructor(file: RandomAccessFile) {
    this.file = file;
  }

  /** Flushes that have begun: a mark for `isFlushedSince`. */
  get now(): number {
    return this.#begun;
  }

  /** Whether a flush has begun after the mark was taken, and finished: what was there then is durable. */
  isFlushedSince(mark: number): boolean {
    return this.#finished > mark;
  }

  /** @throws IO_FAILED, NO_SPACE: the first failure, again and again */
  async flush(): Promise<void> {
    this.assertSound();
    this.#begun += 1;
    const number = this.#begun;
    try {
      await this.file.flush();
      this.#finished = Math.max(this.#finished, number);
    } catch (cause) {
      const { path } = this.file;
      this.#failure ??= new VhdkitError(
        'IO_FAILED',
        `${path} could not be flushed: it is not used any more`,
        {
          operation: 'flush',
          context: { path },
          cause,
          hint: 'Look into the system log for failing or full storage; what was confirmed before is safe.',
        },
      );
      throw this.#failure;
    }
  }

  /** @throws IO_FAILED once a flush has failed */
  assertSound(): void {
    if (this.#failure) throw this.#failure;
  }
}

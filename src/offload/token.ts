/**
 * Tokens: 512 bytes that stand for data at a place and a moment.
 *
 * Invariant: a Token never changes. The bytes are copied in and copied out, so that whoever verified a
 * token object once may remember the verdict.
 *
 * Deliberately no meaning here: the layout is in token-codec.ts, what a token is bound to only the
 * manager knows.
 */
import { VhdkitError } from '../base/errors.js';

/**
 * `point-in-time`: the data of the moment of binding, on the word of the caller that it stays.
 * `change-vulnerable`: refused once the file differs from what it was. `persistent`: the manager keeps the
 * data as it was. `zero`: zeros of any length.
 */
export type TokenMode = 'point-in-time' | 'change-vulnerable' | 'persistent' | 'zero';

export const TOKEN_BYTES = 512;

export class Token {
  readonly #bytes: Uint8Array;

  /** @throws TOKEN_INVALID when there are not exactly 512 bytes */
  constructor(bytes: Uint8Array) {
    if (bytes.length !== TOKEN_BYTES) {
      throw new VhdkitError('TOKEN_INVALID', `A token has ${TOKEN_BYTES} bytes, not ${bytes.length}`, {
        operation: 'read token',
        context: { reason: 'malformed', length: bytes.length },
      });
    }
    this.#bytes = new Uint8Array(bytes);
  }

  /** Whether the bytes are the same. Tells nothing secret: both sides are known to whoever asks. */
  equals(other: Token): boolean {
    return this === other || Buffer.compare(this.#bytes, other.#bytes) === 0;
  }

  /** A copy of the 512 bytes, as they may travel to another process. */
  toBytes(): Uint8Array {
    return new Uint8Array(this.#bytes);
  }
}

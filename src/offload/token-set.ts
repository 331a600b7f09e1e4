/**
 * Token sets: the tokens that stand for a range of data, in one object.
 *
 * A simple caller hands a set back as it came, in memory or as bytes. Others take it apart (`parts`, `slice`),
 * put parts together in another order (`concat`), or choose among the providers that offer the same data.
 *
 * Invariants: a set never changes; parts follow each other from 0 to `length` without gaps; each part has at
 * least one token. Sets with the same parts have the same bytes (token-set-model.ts: normal form).
 *
 * A set is no proof of anything: each token is proved by whoever made it, when it is used. Who holds the
 * tokens of a set may order them as he likes, so the set itself is not signed either.
 */
import { assert } from '../base/assert.js';
import { VhdkitError } from '../base/errors.js';
import { decodeTokenSet, encodeTokenSet } from './token-set-codec.js';
import {
  type AuxiliaryToken,
  isZeroToken,
  type NewPart,
  normalAuxiliary,
  normalParts,
  type TokenChoice,
  type TokenSetPart,
} from './token-set-model.js';

export type { AuxiliaryToken, NewPart, TokenChoice, TokenSetPart } from './token-set-model.js';

function copyOf(token: AuxiliaryToken): AuxiliaryToken {
  return { ...token, bytes: Uint8Array.from(token.bytes) };
}

function frozen(part: TokenSetPart): TokenSetPart {
  if (Object.isFrozen(part)) return part;
  for (const choice of part.choices) Object.freeze(choice);
  return Object.freeze({ ...part, choices: Object.freeze([...part.choices]) });
}

/** The part of something inside `[offset, end)`, counted from `offset` on; undefined when they don't meet. */
function clip<T extends { offset: number; length: number }>(
  item: T,
  offset: number,
  end: number,
): { item: T; skipped: number; offset: number; length: number } | undefined {
  const start = Math.max(item.offset, offset);
  const length = Math.min(item.offset + item.length, end) - start;
  if (length <= 0) return undefined;
  return { item, skipped: start - item.offset, offset: start - offset, length };
}

/** Parts that begin and end wherever one of a set does. Of a provider that several sets have, the first counts. */
function* overlaid(sets: readonly TokenSet[]): Generator<NewPart> {
  const cursors = sets.map(({ parts }) => ({ parts, index: 0 }));
  for (let at = 0; ; ) {
    let end = Number.POSITIVE_INFINITY;
    const choices = new Map<string, TokenChoice>();
    for (const cursor of cursors) {
      let part = cursor.parts[cursor.index];
      if (part && part.offset + part.length <= at) {
        cursor.index += 1;
        part = cursor.parts[cursor.index];
      }
      if (!part) continue;
      end = Math.min(end, part.offset + part.length);
      for (const choice of part.choices) {
        if (!choices.has(choice.provider)) choices.set(choice.provider, advanced(choice, at - part.offset));
      }
    }
    if (choices.size === 0) return;
    yield { length: end - at, choices: [...choices.values()] };
    at = end;
  }
}

/** The choice for what lies `skipped` bytes further on. */
function advanced(choice: TokenChoice, skipped: number): TokenChoice {
  if (skipped === 0 || isZeroToken(choice.token)) return choice;
  return { ...choice, tokenOffset: choice.tokenOffset + skipped };
}

export class TokenSet {
  /** Bytes that the set stands for. */
  readonly length: number;
  readonly parts: readonly TokenSetPart[];
  readonly #auxiliary: readonly AuxiliaryToken[];

  private constructor(parts: readonly TokenSetPart[], auxiliary: readonly AuxiliaryToken[]) {
    const last = parts.at(-1);
    this.parts = Object.freeze(parts.map(frozen));
    this.length = last ? last.offset + last.length : 0;
    this.#auxiliary = auxiliary;
    for (const { offset, length } of auxiliary) {
      assert(offset >= 0 && offset + length <= this.length, 'an auxiliary token is about data of the set');
    }
  }

  /** Parts one behind the other. @throws UNSUPPORTED when there are more than a set may have */
  static of(parts: Iterable<NewPart>, auxiliary: readonly AuxiliaryToken[] = []): TokenSet {
    return new TokenSet(normalParts(parts), normalAuxiliary(auxiliary.map(copyOf)));
  }

  /** The sets one behind the other, whatever order they had before. @throws UNSUPPORTED */
  static concat(sets: readonly TokenSet[]): TokenSet {
    const auxiliary: AuxiliaryToken[] = [];
    let end = 0;
    for (const set of sets) {
      for (const token of set.#auxiliary) auxiliary.push({ ...token, offset: token.offset + end });
      end += set.length;
    }
    const parts = sets.flatMap((set) => set.parts);
    return new TokenSet(normalParts(parts), normalAuxiliary(auxiliary));
  }

  /**
   * Sets for the same data as one that has the tokens of all, those of the first preferred. Where the others
   * end, the longest goes on alone.
   * @throws UNSUPPORTED
   */
  static overlay(sets: readonly TokenSet[]): TokenSet {
    const auxiliary = sets.flatMap((set) => set.#auxiliary);
    return new TokenSet(normalParts(overlaid(sets)), normalAuxiliary(auxiliary));
  }

  /**
   * Reads what `toBytes` wrote, in this process or another.
   * @throws TOKEN_INVALID (`malformed`) for anything else; what a set may have is bounded (SET_LIMITS)
   */
  static fromBytes(bytes: Uint8Array): TokenSet {
    const { parts, auxiliary } = decodeTokenSet(bytes);
    return new TokenSet(normalParts(parts), normalAuxiliary(auxiliary));
  }

  /** Tokens, names of providers and numbers: neither paths nor anything else of a place. */
  toBytes(): Uint8Array {
    return encodeTokenSet(this.parts, this.#auxiliary);
  }

  /** Copies, sorted by offset. */
  get auxiliary(): AuxiliaryToken[] {
    return this.#auxiliary.map(copyOf);
  }

  /** Names of all whose tokens are in the set. */
  get providers(): string[] {
    const names = new Set<string>();
    for (const { choices } of this.parts) for (const { provider } of choices) names.add(provider);
    return [...names];
  }

  /**
   * A range of the set as a set of its own; auxiliary tokens that are about some of it go along.
   * @throws OUT_OF_RANGE
   */
  slice(offset: number, length: number): TokenSet {
    const parts = this.partsWithin(offset, length);
    const auxiliary = this.#auxiliary.flatMap((token) => {
      const cut = clip(token, offset, offset + length);
      if (!cut) return [];
      const tokenOffset = token.tokenOffset + cut.skipped;
      return [{ ...token, offset: cut.offset, length: cut.length, tokenOffset }];
    });
    return new TokenSet(parts, normalAuxiliary(auxiliary));
  }

  /** The parts of a range, cut to it, with offsets from its start: for sets of many pieces. @throws OUT_OF_RANGE */
  partsWithin(offset: number, length: number): TokenSetPart[] {
    const end = offset + length;
    const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(end) && offset >= 0 && length >= 0;
    if (!sound || end > this.length) {
      throw new VhdkitError('OUT_OF_RANGE', `The token set stands for ${this.length} bytes`, {
        operation: 'cut token set',
        context: { offset, length, available: this.length },
      });
    }
    const parts: TokenSetPart[] = [];
    for (let index = this.#indexAt(offset); index < this.parts.length; index += 1) {
      const part = clip(this.parts[index] as TokenSetPart, offset, end);
      if (!part) break;
      const choices = part.item.choices.map((choice) => advanced(choice, part.skipped));
      parts.push({ offset: part.offset, length: part.length, choices });
    }
    return parts;
  }

  /** The same data, but only the tokens of one provider; undefined when it does not offer all of it. */
  only(provider: string): TokenSet | undefined {
    const parts: NewPart[] = [];
    for (const { length, choices } of this.parts) {
      const chosen = choices.filter((choice) => choice.provider === provider);
      if (chosen.length === 0) return undefined;
      parts.push({ length, choices: chosen });
    }
    return new TokenSet(normalParts(parts), this.#auxiliary);
  }

  /** The same tokens with these auxiliary ones instead of what it has. @throws UNSUPPORTED */
  withAuxiliary(auxiliary: readonly AuxiliaryToken[]): TokenSet {
    return new TokenSet(this.parts, normalAuxiliary(auxiliary.map(copyOf)));
  }

  /** Index of the part that holds the offset; the number of parts when it is the end. */
  #indexAt(offset: number): number {
    let low = 0;
    let high = this.parts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const part = this.parts[middle] as TokenSetPart;
      if (part.offset + part.length <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

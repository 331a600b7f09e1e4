/**
 * What a token set consists of: parts, the tokens that may serve each, and auxiliary tokens.
 *
 * Invariants: parts and auxiliary tokens have a normal form, in which neighbours that can be one are one.
 * So a set that was taken apart and put together again is the set that it was, byte for byte.
 *
 * Nothing here knows what a token is bound to, or by whom.
 */
import { assert, assertBytes } from '../base/assert.js';
import { VhdkitError } from '../base/errors.js';
import type { ByteRange } from '../io/random-access-file.js';
import type { Token } from './token.js';
import { inspectToken } from './token-codec.js';

/** Bounds of a set: what is more is refused, when a set is made and when it is read. */
export const SET_LIMITS = {
  providers: 16,
  tokens: 65_536,
  parts: 262_144,
  auxiliary: 4_096,
  /** Of all auxiliary tokens together. */
  auxiliaryBytes: 16 * 1024 * 1024,
} as const;

/** One way to the data of a part. */
export interface TokenChoice {
  /** Whose token it is: an opaque name, `a` to `z`, digits and `-`, at most 31, that says nothing of any place. */
  readonly provider: string;
  readonly token: Token;
  /** Where the part begins within what the token stands for, in bytes. 0 in zero tokens. */
  readonly tokenOffset: number;
}

/** A range of the set. Its choices stand for the same data; the first is the one that was preferred. */
export interface TokenSetPart extends ByteRange {
  readonly choices: readonly TokenChoice[];
}

/** A part before it has its place: parts follow each other from 0 on. */
export type NewPart = Pick<TokenSetPart, 'length' | 'choices'>;

/**
 * A token beside those that stand for data: a checksum, a hash. Whoever does not know its kind passes it on.
 *
 * Of the data that it is about, `[tokenOffset, tokenOffset + length)` is the set's `[offset, offset + length)`:
 * cutting a set changes these numbers and never the bytes.
 */
export interface AuxiliaryToken extends ByteRange {
  /** Like the names of providers: `crc32c`, `sha-256`. */
  readonly kind: string;
  readonly bytes: Uint8Array;
  readonly tokenOffset: number;
}

const NAME = /^[a-z0-9][a-z0-9-]{0,30}$/;

/** True for names of providers and kinds of auxiliary tokens. */
export function isOpaqueName(name: string): boolean {
  return NAME.test(name);
}

/** @throws UNSUPPORTED */
export function assertWithin(count: number, limit: keyof typeof SET_LIMITS): void {
  if (count <= SET_LIMITS[limit]) return;
  throw new VhdkitError(
    'UNSUPPORTED',
    `A token set has at most ${SET_LIMITS[limit]} ${limit}, not ${count}`,
    {
      operation: 'make token set',
      context: { limit: SET_LIMITS[limit] },
      hint: 'Take a shorter range, and more than one set.',
    },
  );
}

/** Tokens never change: what was found out once stays true. */
const zeroTokens = new WeakMap<Token, boolean>();

export function isZeroToken(token: Token): boolean {
  const known = zeroTokens.get(token);
  if (known !== undefined) return known;
  const isZero = inspectToken(token)?.mode === 'zero';
  zeroTokens.set(token, isZero);
  return isZero;
}

function normalChoice({ provider, token, tokenOffset }: TokenChoice, length: number): TokenChoice {
  assert(isOpaqueName(provider), `not a name for a provider: ${provider}`);
  assertBytes(tokenOffset, 'token offset');
  assertBytes(tokenOffset + length, 'end within the token');
  // Zeros are the same everywhere.
  return { provider, token, tokenOffset: isZeroToken(token) ? 0 : tokenOffset };
}

function continues(last: TokenSetPart, next: NewPart): boolean {
  return (
    last.choices.length === next.choices.length &&
    last.choices.every(({ provider, token, tokenOffset }, index) => {
      const after = next.choices[index];
      if (after?.provider !== provider) return false;
      // The numbers first: they differ nearly always, and comparing tokens costs more.
      const follows = tokenOffset + last.length === after.tokenOffset || isZeroToken(token);
      return follows && token.equals(after.token);
    })
  );
}

/** Places parts one behind the other, joining neighbours that continue each other. @throws UNSUPPORTED */
export function normalParts(parts: Iterable<NewPart>): TokenSetPart[] {
  const normal: TokenSetPart[] = [];
  let end = 0;
  for (const { length, choices: given } of parts) {
    assert(length > 0 && Number.isSafeInteger(end + length), `a part has a length, not ${length}`);
    assert(given.length > 0, 'a part has a token');
    const choices = given.map((choice) => normalChoice(choice, length));
    const names = new Set(choices.map(({ provider }) => provider));
    assert(names.size === choices.length, 'a part has one token of a provider');
    const last = normal.at(-1);
    const next = { offset: end, length, choices };
    end += length;
    if (last && continues(last, next)) normal[normal.length - 1] = { ...last, length: end - last.offset };
    else normal.push(next);
    assertWithin(normal.length, 'parts');
  }
  return normal;
}

function compareAuxiliary(a: AuxiliaryToken, b: AuxiliaryToken): number {
  if (a.offset !== b.offset) return a.offset - b.offset;
  if (a.kind !== b.kind) return a.kind < b.kind ? -1 : 1;
  return a.tokenOffset - b.tokenOffset || a.length - b.length || Buffer.compare(a.bytes, b.bytes);
}

/** Sorts, and joins what continues each other. @throws UNSUPPORTED */
export function normalAuxiliary(tokens: readonly AuxiliaryToken[]): AuxiliaryToken[] {
  const sorted = [...tokens].sort(compareAuxiliary);
  const normal: AuxiliaryToken[] = [];
  /** Indexes in `normal`, by what would continue them. */
  const open = new Map<string, number>();
  for (const token of sorted) {
    const { kind, offset, length, tokenOffset, bytes } = token;
    assert(isOpaqueName(kind) && length > 0, `not an auxiliary token: ${kind}, ${length} bytes`);
    assertBytes(tokenOffset, 'token offset');
    const text = `${kind} ${Buffer.from(bytes).toString('latin1')}`;
    const index = open.get(`${offset} ${tokenOffset} ${text}`) ?? normal.length;
    const joined = normal[index];
    normal[index] = joined ? { ...joined, length: joined.length + length } : token;
    open.delete(`${offset} ${tokenOffset} ${text}`);
    open.set(`${offset + length} ${tokenOffset + length} ${text}`, index);
  }
  assertWithin(normal.length, 'auxiliary');
  assertWithin(
    normal.reduce((sum, { bytes }) => sum + bytes.length, 0),
    'auxiliaryBytes',
  );
  // What was joined may have another place among those that begin where it does.
  return normal.sort(compareAuxiliary);
}

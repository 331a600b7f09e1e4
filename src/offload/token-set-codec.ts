/**
 * Token sets as bytes. Big-endian, as tokens are.
 *
 *   0  8 B  "VHDKTSET"          24  u32  choices
 *   8  u32  version: 1          28  u32  auxiliary tokens
 *  12  u32  providers           32  u32  bytes of auxiliary tokens
 *  16  u32  tokens              36  u32  CRC-32C of everything, with zeros here
 *  20  u32  parts
 *
 *  then  providers   32 B each: u8 length, name, zeros
 *        tokens     512 B each, none twice
 *        parts       12 B each: u64 length, u32 choices
 *        choices     16 B each: u32 token, u32 provider, u64 offset within the token
 *        auxiliary   64 B each: 32 B kind (as providers), u64 offset, u64 length, u64 offset within the
 *                               data it is about, u32 bytes, u32 zero
 *        the bytes of the auxiliary tokens, in the same order
 *
 * Invariants: counts are checked against their limits and against the bytes that are there before anything
 * is made of them; nothing is left over. The CRC finds damage; it proves nothing, and needs to prove nothing.
 */

import { toSafeNumber } from '../base/bytes.js';
import { crc32c } from '../base/crc32c.js';
import { VhdkitError } from '../base/errors.js';
import { TOKEN_BYTES, Token } from './token.js';
import {
  type AuxiliaryToken,
  assertWithin,
  isOpaqueName,
  type NewPart,
  SET_LIMITS,
  type TokenChoice,
  type TokenSetPart,
} from './token-set-model.js';

const MAGIC = Buffer.from('VHDKTSET', 'latin1');
const VERSION = 1;
const HEADER_BYTES = 40;
const CHECKSUM_AT = 36;
const NAME_BYTES = 32;
const PART_BYTES = 12;
const CHOICE_BYTES = 16;
const AUXILIARY_BYTES = 64;

interface Counts {
  providers: number;
  tokens: number;
  parts: number;
  choices: number;
  auxiliary: number;
  auxiliaryBytes: number;
}

function sizeOf(counts: Counts): number {
  return (
    HEADER_BYTES +
    counts.providers * NAME_BYTES +
    counts.tokens * TOKEN_BYTES +
    counts.parts * PART_BYTES +
    counts.choices * CHOICE_BYTES +
    counts.auxiliary * AUXILIARY_BYTES +
    counts.auxiliaryBytes
  );
}

/** Appends to a buffer of known size. */
class Writer {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  u32(value: number): void {
    this.#view.setUint32(this.#at, value);
    this.#at += 4;
  }

  u64(value: number): void {
    this.#view.setBigUint64(this.#at, BigInt(value));
    this.#at += 8;
  }

  raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  name(name: string): void {
    this.bytes[this.#at] = name.length;
    this.bytes.set(Buffer.from(name, 'latin1'), this.#at + 1);
    this.#at += NAME_BYTES;
  }
}

/** Numbers things in the order in which they are met, equal ones alike. */
class Numbering<T> {
  readonly all: T[] = [];
  readonly #keyOf: (item: T) => string;
  readonly #byKey = new Map<string, number>();
  /** Objects met before, so that most need no key. */
  readonly #met = new Map<T, number>();

  constructor(keyOf: (item: T) => string) {
    this.#keyOf = keyOf;
  }

  of(item: T): number {
    const met = this.#met.get(item);
    if (met !== undefined) return met;
    const key = this.#keyOf(item);
    const number = this.#byKey.get(key) ?? this.all.push(item) - 1;
    this.#byKey.set(key, number);
    this.#met.set(item, number);
    return number;
  }
}

/** @throws UNSUPPORTED when there is more than a set may have */
export function encodeTokenSet(
  parts: readonly TokenSetPart[],
  auxiliary: readonly AuxiliaryToken[],
): Uint8Array {
  const providers = new Numbering<string>((name) => name);
  const tokens = new Numbering<Token>((token) => Buffer.from(token.toBytes()).toString('latin1'));
  let choices = 0;
  for (const part of parts) {
    choices += part.choices.length;
    for (const { provider, token } of part.choices) {
      providers.of(provider);
      tokens.of(token);
    }
  }
  assertWithin(providers.all.length, 'providers');
  assertWithin(tokens.all.length, 'tokens');
  const counts: Counts = {
    providers: providers.all.length,
    tokens: tokens.all.length,
    parts: parts.length,
    choices,
    auxiliary: auxiliary.length,
    auxiliaryBytes: auxiliary.reduce((sum, { bytes }) => sum + bytes.length, 0),
  };
  const writer = new Writer(sizeOf(counts));
  writeHeader(writer, counts);
  for (const name of providers.all) writer.name(name);
  for (const token of tokens.all) writer.raw(token.toBytes());
  for (const part of parts) {
    writer.u64(part.length);
    writer.u32(part.choices.length);
  }
  for (const { provider, token, tokenOffset } of parts.flatMap((part) => part.choices)) {
    writer.u32(tokens.of(token));
    writer.u32(providers.of(provider));
    writer.u64(tokenOffset);
  }
  for (const { kind, offset, length, tokenOffset, bytes } of auxiliary) {
    writer.name(kind);
    for (const value of [offset, length, tokenOffset]) writer.u64(value);
    writer.u32(bytes.length);
    writer.u32(0);
  }
  for (const { bytes } of auxiliary) writer.raw(bytes);
  new DataView(writer.bytes.buffer).setUint32(CHECKSUM_AT, crc32c(writer.bytes));
  return writer.bytes;
}

function writeHeader(writer: Writer, counts: Counts): void {
  writer.raw(MAGIC);
  const { providers, tokens, parts, choices, auxiliary, auxiliaryBytes } = counts;
  for (const value of [VERSION, providers, tokens, parts, choices, auxiliary, auxiliaryBytes, 0]) {
    writer.u32(value);
  }
}

function malformed(what: string): VhdkitError {
  return new VhdkitError('TOKEN_INVALID', `The token set is refused: ${what}`, {
    operation: 'read token set',
    context: { reason: 'malformed' },
    hint: 'Pass token sets on byte for byte, as they came.',
  });
}

/** Reads what is known to be there. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = HEADER_BYTES;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  u32(): number {
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4);
  }

  size(): number {
    this.#at += 8;
    const value = toSafeNumber(this.#view.getBigUint64(this.#at - 8));
    if (value === undefined) throw malformed('a number is too large');
    return value;
  }

  raw(length: number): Uint8Array {
    this.#at += length;
    return this.#bytes.slice(this.#at - length, this.#at);
  }

  name(): string {
    const bytes = this.raw(NAME_BYTES);
    const length = bytes[0] ?? 0;
    const name = Buffer.from(bytes.subarray(1, 1 + length)).toString('latin1');
    const padded = length >= NAME_BYTES || bytes.subarray(1 + length).some((byte) => byte !== 0);
    if (padded || !isOpaqueName(name)) throw malformed('a name is none');
    return name;
  }
}

/** Whether bytes say that they are a token set. Nothing else begins so: a token begins with its type. */
export function isTokenSet(bytes: Uint8Array): boolean {
  return bytes.length >= MAGIC.length && Buffer.compare(bytes.subarray(0, MAGIC.length), MAGIC) === 0;
}

/** The header's counts, once they are known to be those of these bytes. */
function readCounts(bytes: Uint8Array): Counts {
  if (bytes.length < HEADER_BYTES || !isTokenSet(bytes)) throw malformed('it is none');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(8) !== VERSION) throw malformed(`it is of version ${view.getUint32(8)}`);
  const counts: Counts = {
    providers: view.getUint32(12),
    tokens: view.getUint32(16),
    parts: view.getUint32(20),
    choices: view.getUint32(24),
    auxiliary: view.getUint32(28),
    auxiliaryBytes: view.getUint32(32),
  };
  for (const [name, limit] of Object.entries(SET_LIMITS) as [keyof typeof SET_LIMITS, number][]) {
    if (counts[name] > limit) throw malformed(`it has too many ${name}`);
  }
  if (bytes.length !== sizeOf(counts)) throw malformed('it is not as long as it says');
  const zeroed = crc32c(new Uint8Array(4), crc32c(bytes.subarray(0, CHECKSUM_AT)));
  if (crc32c(bytes.subarray(CHECKSUM_AT + 4), zeroed) !== view.getUint32(CHECKSUM_AT)) {
    throw malformed('it was damaged');
  }
  return counts;
}

function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw malformed('it names what it does not have');
  return item;
}

function readParts(reader: Reader, counts: Counts): NewPart[] {
  const names = Array.from({ length: counts.providers }, () => reader.name());
  if (new Set(names).size !== names.length) throw malformed('a provider is named twice');
  const tokens = Array.from({ length: counts.tokens }, () => new Token(reader.raw(TOKEN_BYTES)));
  const shapes: { length: number; choices: number }[] = [];
  let [end, choices] = [0, 0];
  for (let index = 0; index < counts.parts; index += 1) {
    const shape = { length: reader.size(), choices: reader.u32() };
    end += shape.length;
    choices += shape.choices;
    if (shape.length === 0 || shape.choices === 0 || shape.choices > names.length) {
      throw malformed('a part stands for nothing');
    }
    if (!Number.isSafeInteger(end)) throw malformed('it stands for too many bytes');
    shapes.push(shape);
  }
  if (choices !== counts.choices) throw malformed('its parts do not add up');
  return shapes.map((shape) => ({
    length: shape.length,
    choices: readChoices(reader, shape, tokens, names),
  }));
}

function readChoices(
  reader: Reader,
  { length, choices: count }: { length: number; choices: number },
  tokens: readonly Token[],
  names: readonly string[],
): TokenChoice[] {
  const choices = Array.from({ length: count }, () => {
    const token = at(tokens, reader.u32());
    const provider = at(names, reader.u32());
    return { token, provider, tokenOffset: reader.size() };
  });
  const twice = new Set(choices.map(({ provider }) => provider)).size !== choices.length;
  if (twice) throw malformed('a part has two tokens of one provider');
  if (choices.some(({ tokenOffset }) => !Number.isSafeInteger(tokenOffset + length))) {
    throw malformed('a part lies too far within its token');
  }
  return choices;
}

function readAuxiliary(reader: Reader, counts: Counts, end: number): AuxiliaryToken[] {
  const heads = Array.from({ length: counts.auxiliary }, () => {
    const kind = reader.name();
    const [offset, length, tokenOffset] = [reader.size(), reader.size(), reader.size()];
    const [count, reserved] = [reader.u32(), reader.u32()];
    const inside = length > 0 && offset + length <= end && Number.isSafeInteger(tokenOffset + length);
    if (!inside || reserved !== 0) throw malformed('an auxiliary token is about other data');
    return { kind, offset, length, tokenOffset, count };
  });
  const bytes = heads.reduce((sum, { count }) => sum + count, 0);
  if (bytes !== counts.auxiliaryBytes) throw malformed('its auxiliary tokens do not add up');
  return heads.map(({ count, ...head }) => ({ ...head, bytes: reader.raw(count) }));
}

/** @throws TOKEN_INVALID (`malformed`) */
export function decodeTokenSet(bytes: Uint8Array): { parts: NewPart[]; auxiliary: AuxiliaryToken[] } {
  const counts = readCounts(bytes);
  const reader = new Reader(bytes);
  const parts = readParts(reader, counts);
  const end = parts.reduce((sum, { length }) => sum + length, 0);
  return { parts, auxiliary: readAuxiliary(reader, counts, end) };
}

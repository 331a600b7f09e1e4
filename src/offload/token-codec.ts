/**
 * The bytes of a token, laid out as a ROD token (SPC-4, "ROD tokens"; the same 512 bytes are a
 * STORAGE_OFFLOAD_TOKEN, MS-FSCC 2.3.42), so that they can travel over SCSI one day. Big-endian.
 *
 *   0  u32  ROD type: the token's mode          64  32 B  type specific, zero
 *   4  u16  reserved                            96  u32   block length
 *   6  u16  length of what follows: 0x1F8      100  348 B device data, zero
 *   8  8 B  token id                           448  32 B  random value
 *  16 32 B  creator: identification descriptor 480  32 B  HMAC-SHA-256 over bytes 0 to 479
 *  48 16 B  bytes represented
 *
 * Invariant: any flipped bit makes a token useless, because the keyed checksum covers everything before it
 * and is itself compared whole, in constant time. Zero tokens are well known and not keyed: they match
 * exactly or not at all.
 */
import { createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { assert } from '../base/assert.js';
import { toSafeNumber } from '../base/bytes.js';
import { TOKEN_BYTES, Token, type TokenMode } from './token.js';

const ROD_TYPE: Record<TokenMode, number> = {
  'point-in-time': 0x00800000,
  'change-vulnerable': 0x00800001,
  persistent: 0x00800002,
  zero: 0xffff0001,
};
const MODES = new Map<number, TokenMode>(
  (Object.entries(ROD_TYPE) as [TokenMode, number][]).map(([mode, type]) => [type, mode]),
);

const LENGTH_FIELD = 0x1f8;
const ID_AT = 8;
export const TOKEN_ID_BYTES = 8;
const CREATOR_AT = 16;
export const CREATOR_ID_BYTES = 8;
const BYTE_COUNT_AT = 48;
const BLOCK_LENGTH_AT = 96;
const BLOCK_LENGTH = 512;
const RANDOM_AT = 448;
export const RANDOM_VALUE_BYTES = 32;
const CHECKSUM_AT = 480;

export interface TokenFields {
  mode: Exclude<TokenMode, 'zero'>;
  /** 8 bytes, unique for the manager. */
  id: Uint8Array;
  /** 8 bytes that tell managers apart. */
  creator: Uint8Array;
  /** Bytes that the token stands for. */
  length: number;
  /** 256 bits that nobody can guess. */
  random: Uint8Array;
}

/** The descriptor type and designator of SPC-4 "Identification descriptor CSCD": NAA, locally assigned. */
export function writeCreator(bytes: Uint8Array, creator: Uint8Array): void {
  bytes[CREATOR_AT] = 0xe4;
  bytes[CREATOR_AT + 4] = 0x01;
  bytes[CREATOR_AT + 5] = 0x03;
  bytes[CREATOR_AT + 7] = CREATOR_ID_BYTES;
  bytes.set(locallyAssigned(creator), CREATOR_AT + 8);
  // Disk block length of the device-type specific part.
  new DataView(bytes.buffer).setUint16(CREATOR_AT + 30, BLOCK_LENGTH);
}

/** A key object saves taking the bytes over every time. */
export type TokenKey = Uint8Array | KeyObject;

function checksum(bytes: Uint8Array, key: TokenKey): Uint8Array {
  return createHmac('sha256', key).update(bytes.subarray(0, CHECKSUM_AT)).digest();
}

const scratch = new Uint8Array(TOKEN_BYTES);

export function encodeToken(fields: TokenFields, key: TokenKey): Token {
  assert(fields.id.length === TOKEN_ID_BYTES, 'a token id has 8 bytes');
  assert(fields.creator.length === CREATOR_ID_BYTES, 'a creator id has 8 bytes');
  assert(fields.random.length === RANDOM_VALUE_BYTES, 'the random value has 32 bytes');
  // The token takes a copy.
  const bytes = scratch.fill(0);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ROD_TYPE[fields.mode]);
  view.setUint16(6, LENGTH_FIELD);
  bytes.set(fields.id, ID_AT);
  writeCreator(bytes, fields.creator);
  view.setBigUint64(BYTE_COUNT_AT + 8, BigInt(fields.length));
  view.setUint32(BLOCK_LENGTH_AT, BLOCK_LENGTH);
  bytes.set(fields.random, RANDOM_AT);
  bytes.set(checksum(bytes, key), CHECKSUM_AT);
  return new Token(bytes);
}

export type DecodedToken =
  | { kind: 'zero' }
  | { kind: 'data'; fields: TokenFields }
  /**
   * `forged`: the checksum is not ours. `foreign`: nor is the creator. `malformed`: it is no token at all.
   */
  | { kind: 'refused'; reason: 'forged' | 'foreign' | 'malformed' };

/**
 * Verifies and takes apart. Nothing of a refused token is handed out.
 * @param creator who the key belongs to; tells tokens of others from altered ones, for messages only
 */
export function decodeToken(token: Token, key: TokenKey, creator?: Uint8Array): DecodedToken {
  const bytes = token.toBytes();
  if (isZeroToken(bytes)) return { kind: 'zero' };
  if (!timingSafeEqual(checksum(bytes, key), bytes.subarray(CHECKSUM_AT))) {
    return { kind: 'refused', reason: refusedBecause(bytes, creator) };
  }
  const view = new DataView(bytes.buffer);
  const mode = MODES.get(view.getUint32(0));
  const length = toSafeNumber(view.getBigUint64(BYTE_COUNT_AT + 8));
  // Only reached with our own checksum: a token that we did not make this way.
  if (mode === undefined || mode === 'zero' || length === undefined) {
    return { kind: 'refused', reason: 'malformed' };
  }
  const fields: TokenFields = {
    mode,
    id: bytes.slice(ID_AT, ID_AT + TOKEN_ID_BYTES),
    creator: bytes.slice(CREATOR_AT + 8, CREATOR_AT + 8 + CREATOR_ID_BYTES),
    length,
    random: bytes.slice(RANDOM_AT, RANDOM_AT + RANDOM_VALUE_BYTES),
  };
  return { kind: 'data', fields };
}

function refusedBecause(
  bytes: Uint8Array,
  creator: Uint8Array | undefined,
): 'forged' | 'foreign' | 'malformed' {
  if (!looksLikeToken(bytes)) return 'malformed';
  const theirs = bytes.subarray(CREATOR_AT + 8, CREATOR_AT + 8 + CREATOR_ID_BYTES);
  return creator && Buffer.compare(theirs, locallyAssigned(creator)) !== 0 ? 'foreign' : 'forged';
}

/** What a token says of itself: claims, not proved by anything here. */
export interface TokenClaims {
  mode: TokenMode;
  /** Hexadecimal; empty in zero tokens. */
  id: string;
  creator: string;
  /** Bytes; undefined in zero tokens, which stand for any number, and where the number is too large. */
  length: number | undefined;
}

/** Reads a token without judging it, leaving out what must stay secret. Undefined when it is no token. */
export function inspectToken(token: Token): TokenClaims | undefined {
  const bytes = token.toBytes();
  if (isZeroToken(bytes)) return { mode: 'zero', id: '', creator: '', length: undefined };
  const view = new DataView(bytes.buffer);
  const mode = MODES.get(view.getUint32(0));
  if (mode === undefined || mode === 'zero' || !looksLikeToken(bytes)) return undefined;
  const text = (at: number, length: number): string =>
    Buffer.from(bytes.subarray(at, at + length)).toString('hex');
  return {
    mode,
    id: text(ID_AT, TOKEN_ID_BYTES),
    creator: text(CREATOR_AT + 8, CREATOR_ID_BYTES),
    length: toSafeNumber(view.getBigUint64(BYTE_COUNT_AT + 8)),
  };
}

/** A token, as far as its frame goes, but of a type that is not known here: another system's, or of a time to come. */
export function isOfUnknownType(token: Token): boolean {
  const view = new DataView(token.toBytes().buffer);
  const type = view.getUint32(0);
  return type !== 0 && !MODES.has(type) && view.getUint16(6) === LENGTH_FIELD;
}

/** The creator id of all who know the key; tells nothing about the key. */
export function creatorOf(key: Uint8Array): Uint8Array {
  const digest = createHmac('sha256', key).update('creator').digest();
  return locallyAssigned(digest.subarray(0, CREATOR_ID_BYTES));
}

/** An NAA designator's first four bits say who assigned it: 3, somebody local. */
function locallyAssigned(creator: Uint8Array): Uint8Array {
  const id = new Uint8Array(creator);
  id[0] = 0x30 | ((id[0] ?? 0) & 0x0f);
  return id;
}

function looksLikeToken(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer);
  return MODES.has(view.getUint32(0)) && view.getUint16(6) === LENGTH_FIELD;
}

function zeroTokenBytes(): Uint8Array {
  const bytes = new Uint8Array(TOKEN_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ROD_TYPE.zero);
  view.setUint16(6, LENGTH_FIELD);
  return bytes;
}

/** The other spelling that some headers give: type "well known", pattern 1 in the first bytes of the id. */
function wellKnownZeroBytes(): Uint8Array {
  const bytes = new Uint8Array(TOKEN_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xffffffff);
  view.setUint16(6, LENGTH_FIELD);
  view.setUint16(ID_AT, 0x0001);
  return bytes;
}

const ZERO_SPELLINGS = [zeroTokenBytes(), wellKnownZeroBytes()];

function isZeroToken(bytes: Uint8Array): boolean {
  return ZERO_SPELLINGS.some((spelling) => Buffer.compare(spelling, bytes) === 0);
}

/** Stands for zeros of any length; anybody may make it, it never expires and is not stored. */
export const ZERO_TOKEN = new Token(zeroTokenBytes());

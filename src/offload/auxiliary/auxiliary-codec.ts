/**
 * The bytes of auxiliary tokens: they travel with a primary token and say more about the same data. Laid out
 * like it (token-codec.ts), under ROD types of the vendor's own range (SPC-4, "ROD type": FFFFFFF0h to
 * FFFFFFFEh). Big-endian.
 *
 *   0  u32  FFFFFFF1h checksums, FFFFFFF2h hashes      88  u64   where the data lay in its file (hashes)
 *   4  u16  reserved                                    96  u32   block length: 512
 *   6  u16  length of what follows: 0x1F8              112 16 B   which file that was, as a keyed id (hashes)
 *   8  8 B  token id: the primary token's              128 32 B   SHA-256 of the primary token
 *  16 32 B  creator: identification descriptor         160 32 B   SHA-256 of the list of sums
 *  48 16 B  bytes represented                          192 256 B  the list itself, if it fits
 *  64  u32  size of a block                            448 32 B   zero
 *  68  u32  sums in the list                           480 32 B   checksums: HMAC-SHA-256 over bytes 0 to 479;
 *  72  u64  bytes of the first block before the data              hashes: SHA-256 over them
 *
 * Invariants: an auxiliary token belongs to the one token whose SHA-256 it has, wherever that went, so that
 * sets may be taken apart and put together anew. Every reserved byte is zero. Nothing in one is secret, and
 * nothing tells a path. Checksums are proof, so they are keyed like primary tokens. Hashes prove nothing by
 * themselves: whoever uses one looks at the data; their own sum only tells damage.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { assert } from '../../base/assert.js';
import { isPowerOfTwo, KiB, MiB, toSafeNumber } from '../../base/bytes.js';
import { TOKEN_BYTES, Token } from '../token.js';
import { CREATOR_ID_BYTES, creatorOf, TOKEN_ID_BYTES, writeCreator } from '../token-codec.js';
import { blockCount, type Grid } from './block-grid.js';

export type AuxiliaryKind = 'checksum' | 'hash';

const ROD_TYPE: Record<AuxiliaryKind, number> = { checksum: 0xfffffff1, hash: 0xfffffff2 };
const FIRST_TYPE = 0xfffffff0;
const LAST_TYPE = 0xfffffffe;
export const SUM_BYTES: Record<AuxiliaryKind, number> = { checksum: 4, hash: 32 };

/** Data under one CRC-32C. */
export const CHECKSUM_CHUNK = 64 * KiB;
export const SMALLEST_HASH_BLOCK = 4 * KiB;
export const LARGEST_HASH_BLOCK = 4 * MiB;
/** Lists up to this length are in the token. */
export const INLINE_LIST_BYTES = 256;

const LENGTH_FIELD = 0x1f8;
const ID_AT = 8;
const CREATOR_AT = 16;
const BYTE_COUNT_AT = 48;
const BLOCK_SIZE_AT = 64;
const COUNT_AT = 68;
const PHASE_AT = 72;
const PLACE_OFFSET_AT = 88;
const BLOCK_LENGTH_AT = 96;
const PLACE_ID_AT = 112;
export const PLACE_ID_BYTES = 16;
const PRIMARY_AT = 128;
const LIST_DIGEST_AT = 160;
const LIST_AT = 192;
const CHECKSUM_AT = 480;

/** Where data was when it was bound. */
export interface Place {
  /** 16 bytes: see `placeId`. */
  id: Uint8Array;
  /** Bytes from the start of that file. */
  offset: number;
}

export interface AuxiliaryFields extends Grid {
  kind: AuxiliaryKind;
  /** The token that this one goes with: SHA-256 of its bytes, and its id. */
  primary: Uint8Array;
  primaryId: Uint8Array;
  /** SHA-256 of the list of sums. */
  listDigest: Uint8Array;
  /** The list; undefined when it is too long to be in the token. */
  list: Uint8Array | undefined;
  /** Of hashes. */
  place: Place | undefined;
}

function digest(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

/** What auxiliary tokens know their primary token by. */
export function primaryDigest(token: Token): Uint8Array {
  return digest(token.toBytes());
}

/**
 * Tells a file to whoever knows the key and the file, and nobody else.
 * @param path absolute, without links
 */
export function placeId(key: Uint8Array, path: string): Uint8Array {
  return createHmac('sha256', key).update('place\0').update(path).digest().subarray(0, PLACE_ID_BYTES);
}

function proof(kind: AuxiliaryKind, bytes: Uint8Array, key: Uint8Array): Uint8Array {
  const covered = bytes.subarray(0, CHECKSUM_AT);
  return kind === 'hash' ? digest(covered) : createHmac('sha256', key).update(covered).digest();
}

/** @param key the store's (see `TokenStore.key`) */
export function encodeAuxiliary(fields: AuxiliaryFields, key: Uint8Array): Token {
  const { kind, list, place } = fields;
  assert(!list || list.length <= INLINE_LIST_BYTES, 'a list in a token has at most 256 bytes');
  const bytes = new Uint8Array(TOKEN_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, ROD_TYPE[kind]);
  view.setUint16(6, LENGTH_FIELD);
  bytes.set(fields.primaryId, ID_AT);
  writeCreator(bytes, creatorOf(key));
  view.setBigUint64(BYTE_COUNT_AT + 8, BigInt(fields.length));
  view.setUint32(BLOCK_SIZE_AT, fields.blockSize);
  view.setUint32(COUNT_AT, blockCount(fields));
  view.setBigUint64(PHASE_AT, BigInt(fields.phase));
  view.setUint32(BLOCK_LENGTH_AT, 512);
  if (place) {
    view.setBigUint64(PLACE_OFFSET_AT, BigInt(place.offset));
    bytes.set(place.id, PLACE_ID_AT);
  }
  bytes.set(fields.primary, PRIMARY_AT);
  bytes.set(fields.listDigest, LIST_DIGEST_AT);
  if (list) bytes.set(list, LIST_AT);
  bytes.set(proof(kind, bytes, key), CHECKSUM_AT);
  return new Token(bytes);
}

export type DecodedAuxiliary =
  /** Of this range of types, but of none that is known here: to be passed on as it is. */
  | { kind: 'unknown' }
  | { kind: 'known'; fields: AuxiliaryFields }
  /** `forged`: altered. `foreign`: of another store (checksums). `malformed`: makes no sense. */
  | { kind: 'refused'; auxiliary: AuxiliaryKind | 'unknown'; reason: 'forged' | 'foreign' | 'malformed' };

/** Whether the bytes are an auxiliary token, of whatever kind, sound or not. */
export function isAuxiliary(token: Token): boolean {
  const view = new DataView(token.toBytes().buffer);
  const type = view.getUint32(0);
  return type >= FIRST_TYPE && type <= LAST_TYPE && view.getUint16(6) === LENGTH_FIELD;
}

/**
 * Verifies and takes apart; undefined when it is no auxiliary token. Of hashes only that they are undamaged
 * is verified: anybody can make one.
 * @param key without it, checksums are not verified and count as of another store
 */
export function decodeAuxiliary(token: Token, key: Uint8Array | undefined): DecodedAuxiliary | undefined {
  if (!isAuxiliary(token)) return undefined;
  const bytes = token.toBytes();
  const view = new DataView(bytes.buffer);
  const type = view.getUint32(0);
  const kind = (['checksum', 'hash'] as const).find((name) => ROD_TYPE[name] === type);
  if (!kind) return unknown(bytes, key);
  if (kind === 'checksum' && !key) return { kind: 'refused', auxiliary: kind, reason: 'foreign' };
  const expected = proof(kind, bytes, key ?? new Uint8Array(0));
  if (!timingSafeEqual(expected, bytes.subarray(CHECKSUM_AT))) {
    const reason = kind === 'checksum' && key && !namesCreator(bytes, key) ? 'foreign' : 'forged';
    return { kind: 'refused', auxiliary: kind, reason };
  }
  const fields = fieldsOf(kind, bytes, view);
  return fields ? { kind: 'known', fields } : { kind: 'refused', auxiliary: kind, reason: 'malformed' };
}

/** Of kinds to come it is known that they end as these do: one that names our store was damaged, or is genuine. */
function unknown(bytes: Uint8Array, key: Uint8Array | undefined): DecodedAuxiliary {
  const ends = (kind: AuxiliaryKind, by: Uint8Array): boolean =>
    timingSafeEqual(proof(kind, bytes, by), bytes.subarray(CHECKSUM_AT));
  const ours = key !== undefined && namesCreator(bytes, key);
  if (!ours || ends('checksum', key) || ends('hash', key)) return { kind: 'unknown' };
  return { kind: 'refused', auxiliary: 'unknown', reason: 'forged' };
}

function namesCreator(bytes: Uint8Array, key: Uint8Array): boolean {
  const theirs = bytes.subarray(CREATOR_AT + 8, CREATOR_AT + 8 + CREATOR_ID_BYTES);
  return Buffer.compare(theirs, creatorOf(key)) === 0;
}

/** Undefined when the numbers contradict each other. */
function fieldsOf(kind: AuxiliaryKind, bytes: Uint8Array, view: DataView): AuxiliaryFields | undefined {
  const length = toSafeNumber(view.getBigUint64(BYTE_COUNT_AT + 8));
  const phase = toSafeNumber(view.getBigUint64(PHASE_AT));
  const placeOffset = toSafeNumber(view.getBigUint64(PLACE_OFFSET_AT));
  const blockSize = view.getUint32(BLOCK_SIZE_AT);
  if (view.getBigUint64(BYTE_COUNT_AT) !== 0n || !length || phase === undefined || placeOffset === undefined)
    return undefined;
  const [smallest, largest] =
    kind === 'hash' ? [SMALLEST_HASH_BLOCK, LARGEST_HASH_BLOCK] : [CHECKSUM_CHUNK, CHECKSUM_CHUNK];
  if (!isPowerOfTwo(blockSize) || blockSize < smallest || blockSize > largest) return undefined;
  const grid: Grid = { length, blockSize, phase };
  if (phase >= blockSize || !Number.isSafeInteger(phase + length + placeOffset)) return undefined;
  const count = view.getUint32(COUNT_AT);
  if (count !== blockCount(grid)) return undefined;
  const listDigest = bytes.slice(LIST_DIGEST_AT, LIST_DIGEST_AT + 32);
  const listBytes = count * SUM_BYTES[kind];
  const list = listBytes <= INLINE_LIST_BYTES ? bytes.slice(LIST_AT, LIST_AT + listBytes) : undefined;
  if (list && Buffer.compare(digest(list), listDigest) !== 0) return undefined;
  return {
    ...grid,
    kind,
    primary: bytes.slice(PRIMARY_AT, PRIMARY_AT + 32),
    primaryId: bytes.slice(ID_AT, ID_AT + TOKEN_ID_BYTES),
    listDigest,
    list,
    place:
      kind === 'hash'
        ? { id: bytes.slice(PLACE_ID_AT, PLACE_ID_AT + PLACE_ID_BYTES), offset: placeOffset }
        : undefined,
  };
}

/**
 * The one encoding of token records outside the process. Big-endian:
 *
 *   0  u8     version                        4  32 B     the token's random value
 *   1  u8     mode                          36  5 × f64  offset, length, ttl, created, last used
 *   2  u8     1 revoked, 2 fingerprint      76  5 × i64  fingerprint: device, inode, size, mtime, ctime
 *   3  u8     zero                         116  ...      path and what only some have: JSON in UTF-8
 *
 * Numbers and the random value are not text because that takes half of the time and of the space.
 *
 * Invariant: what decodes is a complete record with every field of its type and size; anything else is
 * `damaged`, or `newer-version` when a later vhdkit wrote it. Fields that this version does not know are
 * kept out by the version byte, so an update by an older program never loses them.
 *
 * The id is the key that the record lies under and is not repeated.
 */
import type { FileFingerprint } from '../../io/random-access-file.js';
import { storeError } from './store-errors.js';
import type { TokenOwner, TokenRecord } from './token-store.js';

export const RECORD_VERSION = 2;
/** Longest encoded record in bytes: a path may have 4096, several escaped ones fit. */
export const MAX_RECORD_BYTES = 32_768;
const MAX_LABEL_BYTES = 4096;

type Counted = 'offset' | 'length' | 'ttl' | 'created' | 'lastUsed';
type Fixed = Counted | 'id' | 'random' | 'mode' | 'revoked' | 'fingerprint';
type Texts = Omit<TokenRecord, Fixed>;

const MODES: readonly TokenRecord['mode'][] = ['point-in-time', 'change-vulnerable', 'persistent'];
const NO_MODE = 0xff;
const REVOKED = 1;
const FINGERPRINT = 2;
const RANDOM_AT = 4;
const RANDOM_BYTES = 32;
const NUMBERS_AT = RANDOM_AT + RANDOM_BYTES;
const FINGERPRINT_AT = NUMBERS_AT + 5 * 8;
const TEXTS_AT = FINGERPRINT_AT + 5 * 8;
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * @param front bytes before it that are left to the caller, and not cleared
 * @throws RangeError when the record does not fit: the manager made it
 */
export function encodeRecord(record: TokenRecord, front = 0): Buffer {
  const { random, mode, fingerprint, labels, revoked } = record;
  if (labels && JSON.stringify(labels).length > MAX_LABEL_BYTES)
    throw new RangeError(`labels of a token take more than ${MAX_LABEL_BYTES} bytes`);
  const texts = JSON.stringify(textsOf(record));
  const length = TEXTS_AT + Buffer.byteLength(texts);
  if (length > MAX_RECORD_BYTES) throw new RangeError(`a token record of ${length} bytes`);
  const bytes = Buffer.allocUnsafe(front + length);
  const view = new DataView(bytes.buffer, bytes.byteOffset + front, TEXTS_AT);
  view.setUint8(0, RECORD_VERSION);
  view.setUint8(1, MODES.indexOf(mode) & NO_MODE);
  view.setUint8(2, (revoked ? REVOKED : 0) | (fingerprint ? FINGERPRINT : 0));
  view.setUint8(3, 0);
  if (random.length !== 2 * RANDOM_BYTES || bytes.write(random, front + RANDOM_AT, 'hex') !== RANDOM_BYTES)
    throw new RangeError('the random value of a token has another size');
  view.setFloat64(NUMBERS_AT, record.offset);
  view.setFloat64(NUMBERS_AT + 8, record.length);
  view.setFloat64(NUMBERS_AT + 16, record.ttl);
  view.setFloat64(NUMBERS_AT + 24, record.created);
  view.setFloat64(NUMBERS_AT + 32, record.lastUsed);
  if (fingerprint) encodeFingerprint(view, fingerprint);
  else bytes.fill(0, front + FINGERPRINT_AT, front + TEXTS_AT);
  bytes.write(texts, front + TEXTS_AT);
  return bytes;
}

function encodeFingerprint(view: DataView, { device, inode, size, mtime, ctime }: FileFingerprint): void {
  view.setBigInt64(FINGERPRINT_AT, device);
  view.setBigInt64(FINGERPRINT_AT + 8, inode);
  view.setBigInt64(FINGERPRINT_AT + 16, size);
  view.setBigInt64(FINGERPRINT_AT + 24, mtime);
  view.setBigInt64(FINGERPRINT_AT + 32, ctime);
}

/** Named one by one: taking the others away costs more than all else. JSON leaves out what is undefined. */
function textsOf(record: TokenRecord): { [K in keyof Required<Texts>]: Texts[K] } {
  const { path, expires, priority, keptPath, keptBytes, keptGroup, system } = record;
  const { usedUntil, leaving, owner, labels } = record;
  return {
    path,
    expires,
    priority,
    keptPath,
    keptBytes,
    keptGroup,
    system,
    usedUntil,
    leaving,
    owner,
    labels,
  };
}

/** @throws TOKEN_STORE_FAILED with reason `damaged` or `newer-version` */
export function decodeRecord(id: string, bytes: Uint8Array, location: string): TokenRecord {
  const version = bytes[0];
  if (version !== undefined && version > RECORD_VERSION && version < 32)
    throw storeError('newer-version', location, `the record of token ${id} has version ${version}`);
  const record = version === RECORD_VERSION ? parse(id, bytes) : undefined;
  if (!record) throw storeError('damaged', location, `the record of token ${id} can't be read`);
  return record;
}

/** Checks every field; the casts say what was checked. */
function parse(id: string, bytes: Uint8Array): TokenRecord | undefined {
  if (bytes.length <= TEXTS_AT || bytes.length > MAX_RECORD_BYTES) return undefined;
  const [, number, flags, reserved] = bytes as unknown as [number, number, number, number];
  const mode = MODES[number];
  const texts = parseTexts(bytes.subarray(TEXTS_AT));
  if (mode === undefined || flags > (REVOKED | FINGERPRINT) || reserved !== 0 || !texts) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, TEXTS_AT);
  const numbers = {
    offset: view.getFloat64(NUMBERS_AT),
    length: view.getFloat64(NUMBERS_AT + 8),
    ttl: view.getFloat64(NUMBERS_AT + 16),
    created: view.getFloat64(NUMBERS_AT + 24),
    lastUsed: view.getFloat64(NUMBERS_AT + 32),
  };
  const { offset, length, ttl, created, lastUsed } = numbers;
  if (!isCount(offset) || !isCount(length) || ![ttl, created, lastUsed].every(isTime)) return undefined;
  return {
    id,
    random: Buffer.from(bytes.buffer, bytes.byteOffset + RANDOM_AT, RANDOM_BYTES).toString('hex'),
    mode,
    ...numbers,
    revoked: (flags & REVOKED) !== 0,
    ...((flags & FINGERPRINT) === 0 ? {} : { fingerprint: decodeFingerprint(view) }),
    ...texts,
  };
}

function decodeFingerprint(view: DataView): FileFingerprint {
  return {
    device: view.getBigInt64(FINGERPRINT_AT),
    inode: view.getBigInt64(FINGERPRINT_AT + 8),
    size: view.getBigInt64(FINGERPRINT_AT + 16),
    mtime: view.getBigInt64(FINGERPRINT_AT + 24),
    ctime: view.getBigInt64(FINGERPRINT_AT + 32),
  };
}

function parseTexts(bytes: Uint8Array): Texts | undefined {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    return undefined;
  }
  if (!isObject(value) || !Object.hasOwn(value, 'path')) return undefined;
  for (const name in value) if (TEXT_FIELDS.get(name)?.(value[name]) !== true) return undefined;
  return value as unknown as Texts;
}

type Fields = Record<string, unknown>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Zero or a positive integer that a number holds exactly. */
function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

function isText(value: unknown): value is string {
  return typeof value === 'string';
}

function optional(value: unknown, test: (value: unknown) => boolean): boolean {
  return value === undefined || test(value);
}

const TEXT_FIELDS = new Map<string, (value: unknown) => boolean>([
  ['path', isText],
  ['expires', isTime],
  ['priority', (value) => typeof value === 'number' && Number.isFinite(value)],
  ['keptPath', isText],
  ['keptBytes', isCount],
  ['keptGroup', isText],
  ['system', isText],
  ['usedUntil', isTime],
  ['leaving', (value) => typeof value === 'boolean'],
  ['owner', isOwner],
  ['labels', (value) => isObject(value) && Object.values(value).every(isText)],
]);

function isOwner(value: unknown): value is TokenOwner {
  return (
    isObject(value) &&
    isText(value.host) &&
    isCount(value.pid) &&
    optional(value.started, isText) &&
    optional(value.until, isTime)
  );
}

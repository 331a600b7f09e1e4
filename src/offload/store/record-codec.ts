/**
 * The one encoding of token records outside the process: a version byte, then JSON in UTF-8, a list of what every
 * record has with an object of what only some have at its end.
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

export const RECORD_VERSION = 1;
/** Longest encoded record in bytes: a path may have 4096, several escaped ones fit. */
export const MAX_RECORD_BYTES = 32_768;
const MAX_LABEL_BYTES = 4096;

type Always =
  | 'id'
  | 'random'
  | 'mode'
  | 'path'
  | 'offset'
  | 'length'
  | 'ttl'
  | 'created'
  | 'lastUsed'
  | 'revoked';
type Optional = Exclude<keyof TokenRecord, Always>;

const MODES: readonly string[] = ['point-in-time', 'change-vulnerable', 'persistent'];
const FINGERPRINT_FIELDS = ['device', 'inode', 'size', 'mtime', 'ctime'] as const;
const decoder = new TextDecoder('utf-8', { fatal: true });

/** @throws RangeError when the record is too long: the manager made it */
export function encodeRecord(record: TokenRecord): Uint8Array {
  const { random, mode, path, offset, length, ttl, created, lastUsed, revoked, labels } = record;
  if (labels && JSON.stringify(labels).length > MAX_LABEL_BYTES)
    throw new RangeError(`labels of a token take more than ${MAX_LABEL_BYTES} bytes`);
  // A list, because a store may hold very many and processes map all of it.
  const fields = [
    Buffer.from(random, 'hex').toString('base64'),
    mode,
    path,
    offset,
    length,
    ttl,
    created,
    lastUsed,
    revoked,
    optionalsOf(record),
  ];
  const text = JSON.stringify(fields);
  const bytesOfText = Buffer.byteLength(text);
  if (bytesOfText >= MAX_RECORD_BYTES) throw new RangeError(`a token record of ${bytesOfText} bytes`);
  const bytes = Buffer.allocUnsafe(bytesOfText + 1);
  bytes[0] = RECORD_VERSION;
  bytes.write(text, 1);
  return bytes;
}

/** Named one by one: taking the others away costs more than all else. JSON leaves out what is undefined. */
function optionalsOf(record: TokenRecord): Record<Optional, unknown> {
  const { fingerprint: print, expires, priority, keptPath, keptBytes, keptGroup, system } = record;
  const { usedUntil, leaving, owner, labels } = record;
  return {
    fingerprint: print && FINGERPRINT_FIELDS.map((name) => String(print[name])),
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

function parse(id: string, bytes: Uint8Array): TokenRecord | undefined {
  if (bytes.length > MAX_RECORD_BYTES) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes.subarray(1)));
  } catch {
    return undefined;
  }
  return Array.isArray(value) && value.length === 10 ? toRecord(id, value) : undefined;
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

/** Checks every field; the casts below say what was checked. */
function toRecord(id: string, fields: readonly unknown[]): TokenRecord | undefined {
  const [random, mode, path, offset, length, ttl, created, lastUsed, revoked, more] = fields;
  const sound =
    isText(random) &&
    isText(mode) &&
    MODES.includes(mode) &&
    isText(path) &&
    isCount(offset) &&
    isCount(length) &&
    isTime(ttl) &&
    isTime(created) &&
    isTime(lastUsed) &&
    typeof revoked === 'boolean' &&
    isObject(more);
  if (!sound || !optionalsSound(more)) return undefined;
  const { fingerprint, ...others } = more;
  const base = {
    id,
    random: Buffer.from(random, 'base64').toString('hex'),
    mode: mode as TokenRecord['mode'],
    path,
    offset,
    length,
    ttl,
    created,
    lastUsed,
    revoked,
    ...(others as Partial<TokenRecord>),
  };
  if (fingerprint === undefined) return base;
  const decoded = toFingerprint(fingerprint);
  return decoded && { ...base, fingerprint: decoded };
}

const OPTIONAL_FIELDS: Record<string, (value: unknown) => boolean> = {
  fingerprint: Array.isArray,
  expires: isTime,
  priority: (value) => typeof value === 'number' && Number.isFinite(value),
  keptPath: isText,
  keptBytes: isCount,
  keptGroup: isText,
  system: isText,
  usedUntil: isTime,
  leaving: (value) => typeof value === 'boolean',
  owner: isOwner,
  labels: (value) => isObject(value) && Object.values(value).every(isText),
};

function optionalsSound(more: Fields): boolean {
  return Object.entries(more).every(([name, value]) => OPTIONAL_FIELDS[name]?.(value) === true);
}

function isOwner(value: unknown): value is TokenOwner {
  return (
    isObject(value) &&
    isText(value.host) &&
    isCount(value.pid) &&
    optional(value.started, isText) &&
    optional(value.until, isTime)
  );
}

function toFingerprint(value: unknown): FileFingerprint | undefined {
  if (!Array.isArray(value) || value.length !== FINGERPRINT_FIELDS.length) return undefined;
  const numbers = value.map((item) => (isText(item) && /^-?\d{1,20}$/.test(item) ? BigInt(item) : undefined));
  const [device, inode, size, mtime, ctime] = numbers;
  if (device === undefined || inode === undefined || size === undefined) return undefined;
  if (mtime === undefined || ctime === undefined) return undefined;
  return { device, inode, size, mtime, ctime };
}

/**
 * Why a token is refused, and what is said about it.
 *
 * Invariant: reasons are stable words, one for each way in which a token can fail; they are what is counted
 * and what `context.reason` carries. Messages for tokens that nobody has proved to hold say nothing of what
 * a token is bound to.
 */
import { type ErrorCode, VhdkitError } from '../base/errors.js';
import type { TokenRecord } from './store/token-store.js';
import type { TokenState } from './token-standing.js';

/**
 * `malformed`: no token at all. `unsupported`: one of a type that is not known. `forged`: our creator id, but not our checksum. `foreign`: of another store.
 * `unknown`: nothing is bound to it (any more). `revoked`, `expired`: its life is over. `evicted`: it made room for
 * others. `closed`: it lived only while its source was held open, or its owner's process ran. `changed`: what it
 * stands for is not what it was. `lost`: the kept data is gone. `forbidden`: the system does not let this
 * user read the data. `limit`: there is no room for a new one. `bound elsewhere`: only the process that bound it can use it.
 */
export const REFUSAL_REASONS = [
  'malformed',
  'unsupported',
  'forged',
  'foreign',
  'unknown',
  'revoked',
  'evicted',
  'closed',
  'lost',
  'bound elsewhere',
  'expired',
  'changed',
  'forbidden',
  'limit',
] as const;

export type RefusalReason = (typeof REFUSAL_REASONS)[number];

type InvalidReason = Exclude<RefusalReason, 'expired' | 'changed' | 'forbidden' | 'limit'>;

const INVALID_TEXT: Record<InvalidReason, string> = {
  malformed: 'it is not a token, or it was damaged',
  unsupported: 'it is of a type that this version does not know',
  forged: 'its checksum is wrong: it was altered or made by another manager',
  foreign: 'it was made by another token store',
  unknown: 'nothing is bound to it any more',
  revoked: 'it was revoked',
  evicted: 'it made room for others when a limit of its store was reached',
  closed: 'it was good only while whoever made it held the source open',
  lost: 'the data that was kept for it is gone',
  'bound elsewhere': 'its data is open in another process only',
};

const FRESH = 'Read the source anew for a fresh token.';
const HINTS: Partial<Record<InvalidReason, string>> = {
  foreign: 'Name the store that it was made with: --token-store LOCATION.',
  evicted: 'Read the source anew, with a higher --priority, or raise the limits: vhdkit token limits.',
  closed: 'Whoever makes a token with --hold must keep running while it is used.',
};

export function invalid(reason: InvalidReason): VhdkitError {
  const hint = HINTS[reason] ?? FRESH;
  return new VhdkitError('TOKEN_INVALID', `The token is refused: ${INVALID_TEXT[reason]}`, {
    operation: 'resolve token',
    context: { reason },
    hint,
  });
}

/** Of a token whose holder proved to have it. */
export function expired(record: TokenRecord, now: number): VhdkitError {
  const { path, ttl, expires } = record;
  const over = expires !== undefined && now > expires;
  const why = over ? 'was valid for a limited time, which is over' : `was not used for ${ttl} ms`;
  return new VhdkitError('TOKEN_EXPIRED', `The token for ${path} ${why}`, {
    operation: 'resolve token',
    context: { path, ttl, ...(over ? { expires } : {}) },
    hint: FRESH,
  });
}

/** Of a token that ended, or that nobody may begin to use any more; its holder proved to have it. */
export function ended(record: TokenRecord, state: Exclude<TokenState, 'valid'>, now: number): VhdkitError {
  if (state === 'expired') return expired(record, now);
  return invalid(state === 'leaving' ? 'revoked' : state);
}

/** @param since when it was bound here: it changed while this process worked; else before */
export function sourceChanged(record: TokenRecord, since: 'bound here' | 'bound elsewhere'): VhdkitError {
  const { path, offset, length } = record;
  const here = since === 'bound here';
  const when = here ? 'while it was being read' : 'after the token was made';
  return new VhdkitError('SOURCE_CHANGED', `${path} was changed ${when}`, {
    operation: here ? 'read source' : 'resolve token',
    context: { path, offset, length },
    hint: here
      ? 'Stop whatever writes to it (a running virtual machine?), or use --snapshot-source where extents can be shared.'
      : 'Read the source anew for a fresh token; one with --mode persistent keeps the data as it was.',
  });
}

const REASON_OF_CODE: Partial<Record<ErrorCode, RefusalReason>> = {
  TOKEN_EXPIRED: 'expired',
  SOURCE_CHANGED: 'changed',
  PERMISSION_DENIED: 'forbidden',
  TOKEN_LIMIT: 'limit',
};

/** The reason that an error stands for; undefined for errors that refuse no token. */
export function refusalReason(error: VhdkitError): RefusalReason | undefined {
  if (error.code !== 'TOKEN_INVALID') return REASON_OF_CODE[error.code];
  const { reason } = error.context;
  return typeof reason === 'string' ? (reason as RefusalReason) : 'malformed';
}

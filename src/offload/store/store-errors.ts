/**
 * What goes wrong with a token store, told apart by `context.reason`.
 *
 * Invariant: the reasons are stable, like error codes; messages and hints may be reworded.
 */
import { type ErrorCode, VhdkitError } from '../../base/errors.js';

/** Reasons of the stores, the error code each comes with, and what to do. */
const REASONS = {
  'read-only': ['PERMISSION_DENIED', 'Give write permission, or name another token store.'],
  'not-private': ['PERMISSION_DENIED', 'Take the write permission for others from the folder (chmod 700).'],
  'access-denied': ['PERMISSION_DENIED', 'Check the user, password or credentials for the server.'],
  full: ['NO_SPACE', 'Revoke tokens that are not needed, or make room where the store lies.'],
  'token-limit': [
    'TOKEN_LIMIT',
    'Every token is in use or of higher priority: revoke some, give this one a higher --priority, or raise the limit (vhdkit token limits --tokens N).',
  ],
  'kept-limit': [
    'TOKEN_LIMIT',
    'Revoke persistent tokens, give this one a higher --priority, take one with --mode change-vulnerable, or raise the limit (vhdkit token limits --kept SIZE).',
  ],
  'memory-limit': [
    'TOKEN_LIMIT',
    'Use fewer tokens at a time, or raise the limit (vhdkit token limits --memory SIZE).',
  ],
  'package-missing': ['UNSUPPORTED', 'Install the package named, or name another token store.'],
  damaged: ['TOKEN_STORE_FAILED', 'Remove the store and make the tokens anew.'],
  'newer-version': ['TOKEN_STORE_FAILED', 'Use a vhdkit at least as new as the one that made the store.'],
  'not-a-store': ['TOKEN_STORE_FAILED', 'Name another place: something else is kept there.'],
  unreachable: ['TOKEN_STORE_FAILED', 'Check that the server runs and can be reached from here.'],
  timeout: ['TOKEN_STORE_FAILED', 'Try again; the change may or may not have been made.'],
  'no-jetstream': ['TOKEN_STORE_FAILED', 'Start the server with JetStream (nats-server -js).'],
  'wrong-shape': ['TOKEN_STORE_FAILED', 'Name another bucket; vhdkit makes it as it has to be.'],
  gone: ['TOKEN_STORE_FAILED', 'The store was removed while it was in use: open it again.'],
  closed: ['TOKEN_STORE_FAILED', 'Open the store again.'],
  failed: ['IO_FAILED', 'The cause says what the system or the server reported.'],
} as const satisfies Record<string, readonly [ErrorCode, string]>;

export type StoreFailure = keyof typeof REASONS;

/** The error for a reason; `location` names the store, without passwords. */
export function storeError(
  reason: StoreFailure,
  location: string,
  detail: string,
  cause?: unknown,
): VhdkitError {
  const [code, hint] = REASONS[reason];
  return new VhdkitError(code, `The token store ${location}: ${detail}`, {
    operation: 'use token store',
    context: { path: location, reason },
    hint,
    ...(cause === undefined ? {} : { cause }),
  });
}

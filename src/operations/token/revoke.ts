/**
 * `token revoke`: ends the life of tokens, for all who share the store.
 *
 * An order does not ask whether the token is in use; work that has begun finishes, or stops if it was begun so.
 * A hint lets those who use the token finish, and nobody else begin.
 */
import { VhdkitError } from '../../base/errors.js';
import type { Host } from '../host.js';
import { type OpenTokens, type StoreChoice, withTokens } from './store.js';
import { readTokens } from './token-file.js';

export interface TokenRevokeOptions {
  /** A token's id or a token file; exactly when not `all`. */
  which?: string;
  /** Every token of the store. */
  all?: boolean;
  /** Only ask them to go: those in use end with the last use. */
  hint?: boolean;
  store?: StoreChoice;
}

export interface TokenRevokeResult {
  /** Ids of tokens that were alive. */
  revoked: string[];
  /** Ids of tokens that end when nobody uses them any more. */
  leaving: string[];
  /** Ids of tokens whose life had ended before. */
  ended: string[];
}

const ID = /^[0-9a-f]{16}$/i;

/** @throws TOKEN_INVALID (no such token in this store), INVALID_ARGUMENT, NOT_FOUND, TOKEN_STORE_FAILED */
export async function revokeTokens(host: Host, options: TokenRevokeOptions): Promise<TokenRevokeResult> {
  const { which, all = false, hint = false } = options;
  if (all === (which !== undefined)) {
    throw new VhdkitError('INVALID_ARGUMENT', 'Either one token (or file of tokens) is revoked, or all', {
      operation: 'revoke token',
      hint: 'Name an id from `vhdkit token list` or a token file, or say --all.',
    });
  }
  return withTokens(host, options.store, async (tokens) => {
    const ids = which === undefined ? await allIds(tokens) : await idsOf(host, tokens, which);
    const result: TokenRevokeResult = { revoked: [], leaving: [], ended: [] };
    // The first of several that share what is kept carries the charge for it: it goes last.
    for (const id of ids.reverse()) result[await end(tokens, id, hint)].push(id);
    for (const list of Object.values(result)) list.reverse();
    return result;
  });
}

async function end({ manager }: OpenTokens, id: string, hint: boolean): Promise<keyof TokenRevokeResult> {
  if (hint) return manager.hintById(id);
  return (await manager.revokeById(id, 'remember')) ? 'revoked' : 'ended';
}

async function allIds({ store }: OpenTokens): Promise<string[]> {
  const ids: string[] = [];
  for await (const { record } of store.list()) if (!record.revoked) ids.push(record.id);
  return ids;
}

async function idsOf(host: Host, { store, manager }: OpenTokens, which: string): Promise<string[]> {
  if (ID.test(which) && (await host.fileSystem.kind(which)) === 'absent') {
    const id = which.toLowerCase();
    if (await store.get(id)) return [id];
    throw notOurs(`No token ${id} is in this store`, 'unknown');
  }
  const ids: string[] = [];
  for (const { token, claims } of await readTokens(host, which)) {
    if (claims.mode === 'zero') continue;
    const { state } = await manager.inspect(token);
    if (state === 'forged' || state === 'foreign' || state === 'malformed') {
      throw notOurs(`A token of ${which} was not made by this store, or was altered`, state);
    }
    ids.push(claims.id);
  }
  return ids;
}

function notOurs(message: string, reason: string): VhdkitError {
  return new VhdkitError('TOKEN_INVALID', message, {
    operation: 'revoke token',
    context: { reason },
    hint: 'See `vhdkit token list`, or name another store with --token-store.',
  });
}

/**
 * From a location, as people write it, to an open token store.
 *
 * A folder (a path or a `file:` URL) is an LMDB store, `nats://host[:port][/bucket]` (or `tls:`) a JetStream
 * bucket; without a location it is this user's own folder. The packages of both are optional and loaded here
 * only.
 */
import { fileURLToPath } from 'node:url';
import { VhdkitError } from '../../base/errors.js';
import type { RandomSource } from '../../base/random.js';
import { credentialsFile, readStart, userStateFolder } from '../../io/private-folder.js';
import type { TokenStore } from './token-store.js';

export interface OpenStoreOptions {
  random?: RandomSource;
  /** Longest wait for a server's answer in milliseconds. */
  timeout?: number;
}

const BUCKET = /^[A-Za-z0-9_-]{1,64}$/;

/** The folder of the store that is used when none is named. */
export function defaultTokenFolder(): string {
  return `${userStateFolder()}/tokens`;
}

/** Is there a store where `openTokenStore` without a location would look? Makes nothing. */
export async function defaultTokenStoreExists(): Promise<boolean> {
  const start = await readStart(`${defaultTokenFolder()}/data.mdb`, 1).catch(() => undefined);
  return start !== undefined && start.size > 0;
}

/**
 * Opens a token store, and makes it if it is not there. Close it: it holds a map or a connection.
 * @throws INVALID_ARGUMENT (location), UNSUPPORTED (`package-missing`), PERMISSION_DENIED (`read-only`,
 *   `not-private`, `access-denied`), NO_SPACE (`full`), TOKEN_STORE_FAILED (`damaged`, `newer-version`,
 *   `not-a-store`, `unreachable`, `timeout`, `no-jetstream`, `wrong-shape`); `context.reason` has the word
 */
export async function openTokenStore(location?: string, options: OpenStoreOptions = {}): Promise<TokenStore> {
  const scheme =
    location === undefined ? undefined : /^([a-z][a-z0-9+.-]+):/i.exec(location)?.[1]?.toLowerCase();
  if (location !== undefined && (scheme === 'nats' || scheme === 'tls')) return openNats(location, options);
  const folder = scheme === 'file' ? fromFileUrl(location ?? '') : location;
  if (scheme !== undefined && scheme !== 'file') throw badLocation(`${scheme}: is no kind of token store`);
  if (folder === '') throw badLocation('it is empty');
  const { openLmdbStore } = await import('./lmdb-store.js');
  return openLmdbStore(folder ?? defaultTokenFolder(), options);
}

async function openNats(location: string, options: OpenStoreOptions): Promise<TokenStore> {
  const { server, bucket } = parseNats(location);
  const credentials = await credentialsFile();
  const { openNatsStore } = await import('./nats-store.js');
  return openNatsStore({ ...options, server, credentials, ...(bucket ? { bucket } : {}) });
}

function parseNats(location: string): { server: string; bucket: string } {
  let url: URL;
  try {
    url = new URL(location);
  } catch {
    throw badLocation('it is no URL');
  }
  const bucket = url.pathname.replace(/^\/|\/$/g, '');
  if (url.hostname === '') throw badLocation('it names no host');
  if (bucket !== '' && !BUCKET.test(bucket)) throw badLocation('a bucket has letters, digits, - and _ only');
  url.pathname = '';
  if (url.port === '') url.port = '4222';
  return { server: url.href, bucket };
}

function fromFileUrl(location: string): string {
  // `file:folder` is no URL of the standard, but what people write.
  if (!/^file:\/\//i.test(location)) return location.slice('file:'.length);
  try {
    return fileURLToPath(location);
  } catch {
    throw badLocation('a file: URL names a folder of this machine');
  }
}

function badLocation(detail: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', `The location of the token store: ${detail}`, {
    operation: 'open token store',
    hint: 'Name a folder, or nats://host:port/bucket.',
  });
}

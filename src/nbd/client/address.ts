/**
 * Where an NBD server is, as text and as parts.
 *
 * URIs are those of the NBD project's doc/uri.md: `nbd://host[:port]/export`, `nbds://` with TLS, and
 * `nbd+unix:///export?socket=/path`. The export's name is what follows the first slash, percent-decoded.
 */
import { VhdkitError } from '../../base/errors.js';
import { DEFAULT_PORT } from '../protocol.js';
import type { NbdAddress } from '../server.js';

export interface NbdTarget {
  readonly address: NbdAddress;
  readonly export: string;
  readonly tls: boolean;
}

export function describeAddress(address: NbdAddress): string {
  return 'path' in address ? address.path : `${address.host}:${address.port}`;
}

/** @throws INVALID_ARGUMENT */
export function parseNbdUri(text: string): NbdTarget {
  const match = /^nbd(s?)(\+unix)?:/.exec(text);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!match || !url) throw notAUri(text);
  const tls = match[1] === 's';
  const name = decodePath(url.pathname, text);
  if (match[2] === undefined) {
    if (url.hostname === '') throw notAUri(text);
    const host = decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, '$1');
    const port = url.port === '' ? DEFAULT_PORT : Number(url.port);
    return { address: { host, port }, export: name, tls };
  }
  const socket = url.searchParams.get('socket');
  if (socket === null || socket === '') throw notAUri(text);
  return { address: { path: socket }, export: name, tls };
}

function decodePath(pathname: string, text: string): string {
  try {
    return decodeURIComponent(pathname.replace(/^\//, ''));
  } catch {
    throw notAUri(text);
  }
}

function notAUri(text: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', `Not the address of an NBD export: '${text}'`, {
    operation: 'parse NBD address',
    hint: 'Write nbd://host[:port]/export or nbd+unix:///export?socket=/path (nbds for TLS).',
  });
}

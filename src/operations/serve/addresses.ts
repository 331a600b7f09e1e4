/**
 * Addresses of servers as people write them, and the URIs that clients take.
 *
 * The URI form is that of the NBD URI specification: the export is the path after the first slash,
 * percent-encoded; a Unix socket is a query parameter.
 */
import { VhdkitError } from '../../base/errors.js';
import type { NbdAddress } from '../../nbd/server.js';

/** The registered port. */
export const NBD_PORT = 10809;
export const DEFAULT_ADDRESS: NbdAddress = { host: '127.0.0.1', port: NBD_PORT };

function notAnAddress(text: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', `Not an address to listen at: '${text}'`, {
    operation: 'serve',
    hint: 'Write unix:PATH, HOST:PORT or [IPv6]:PORT, for example unix:/run/disk.sock or 127.0.0.1:10809.',
  });
}

/** `unix:PATH`, `HOST`, `HOST:PORT`, `[::1]:PORT`. @throws INVALID_ARGUMENT */
export function parseAddress(text: string): NbdAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (path === '' || path.includes('\0')) throw notAnAddress(text);
    return { path };
  }
  const match = /^(?:\[([^\]/]+)\]|([^:/[\]\s]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? NBD_PORT : Number(match[3]);
  if (host === undefined || port > 65535) throw notAnAddress(text);
  return { host, port };
}

export function formatAddress(address: NbdAddress): string {
  if ('path' in address) return `unix:${address.path}`;
  const { host, port } = address;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** What a client is given to reach an export. Unspecified addresses are named by the loopback one. */
export function exportUri(address: NbdAddress, name: string, encrypted: boolean): string {
  const scheme = encrypted ? 'nbds' : 'nbd';
  const path = encodeURIComponent(name);
  if ('path' in address) {
    return `${scheme}+unix:///${path}?socket=${encodeURIComponent(address.path).replaceAll('%2F', '/')}`;
  }
  const host = { '0.0.0.0': '127.0.0.1', '::': '::1' }[address.host] ?? address.host;
  const place = formatAddress({ host, port: address.port });
  return `${scheme}://${address.port === NBD_PORT ? place.replace(/:10809$/, '') : place}/${path}`;
}

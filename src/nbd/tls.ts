/**
 * Encryption of a connection that began in the clear (STARTTLS), at both ends.
 *
 * Invariant: a socket that is answered with is encrypted, and its peer was verified as far as was asked for.
 * TLS 1.2 at least. Keys and certificates are PEM texts; where they come from is the caller's business.
 */
import type { Socket } from 'node:net';
import tls from 'node:tls';
import { VhdkitError } from '../base/errors.js';

export interface ServerTls {
  /** PEM: the server's certificate, with those in between to its authority. */
  readonly certificate: string | Buffer;
  readonly key: string | Buffer;
  /** PEM: authorities whose clients are let in. With it clients must show a certificate. */
  readonly clientAuthority?: string | Buffer;
  /** Clients may go on without TLS. Default: they may not. */
  readonly optional?: boolean;
}

export interface ClientTls {
  /** PEM: authorities that servers are verified by. Default: those that Node trusts. */
  readonly authority?: string | Buffer;
  /** PEM: what is shown to servers that ask. */
  readonly certificate?: string | Buffer;
  readonly key?: string | Buffer;
  /** Name the server's certificate must be for. Default: the host connected to. */
  readonly serverName?: string;
}

/** @throws INVALID_ARGUMENT when key and certificate can't be used */
export function checkServerTls(options: ServerTls): void {
  try {
    tls.createSecureContext({ cert: options.certificate, key: options.key, ca: options.clientAuthority });
  } catch (cause) {
    throw new VhdkitError('INVALID_ARGUMENT', 'The certificate or its key cannot be used', {
      operation: 'set up TLS',
      cause,
      hint: 'Give PEM files: a certificate, and the private key that belongs to it.',
    });
  }
}

/** Rejects with what TLS said, or when the connection ends before it is encrypted. The socket must be paused. */
export function encryptAsServer(socket: Socket, options: ServerTls): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const verify = options.clientAuthority !== undefined;
    const server = tls.createServer({
      cert: options.certificate,
      key: options.key,
      ...(verify ? { ca: options.clientAuthority } : {}),
      requestCert: verify,
      rejectUnauthorized: verify,
      minVersion: 'TLSv1.2',
      // The connection's own time for the handshake is shorter or longer as its user wants.
      handshakeTimeout: 2 ** 31 - 1,
    });
    server.once('secureConnection', resolve);
    server.once('tlsClientError', reject);
    socket.once('close', () => reject(new Error('the connection ended while TLS was agreed upon')));
    server.emit('connection', socket);
  });
}

/** The name in the certificate that the client showed. */
export function clientName(socket: tls.TLSSocket): string | undefined {
  // Without a certificate the object is empty, whatever its type says; and a name may be there several times.
  const { subject } = socket.getPeerCertificate() as Partial<tls.PeerCertificate>;
  const name: unknown = subject?.CN;
  return name === undefined ? undefined : String(name);
}

/** @throws PERMISSION_DENIED when the server can't be verified or does not accept us */
export function encryptAsClient(socket: Socket, options: ClientTls, host: string): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown): void => {
      const text = cause instanceof Error ? cause.message : String(cause);
      reject(
        new VhdkitError('PERMISSION_DENIED', `TLS with the NBD server failed: ${text}`, {
          operation: 'connect to NBD server',
          cause,
          hint: 'Check the authority, the name in the server’s certificate, and whether it asks for one of yours.',
        }),
      );
    };
    const name = options.serverName ?? host;
    const secure = tls.connect({
      socket,
      servername: /^[\d.:]+$/.test(name) ? '' : name,
      checkServerIdentity: (_, certificate) => tls.checkServerIdentity(name, certificate),
      minVersion: 'TLSv1.2',
      ...(options.authority === undefined ? {} : { ca: options.authority }),
      ...(options.certificate === undefined ? {} : { cert: options.certificate }),
      ...(options.key === undefined ? {} : { key: options.key }),
    });
    secure.once('error', fail);
    secure.once('close', () => fail(new Error('the server closed the connection')));
    secure.once('secureConnect', () => {
      secure.removeListener('error', fail);
      resolve(secure);
    });
  });
}

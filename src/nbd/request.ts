/**
 * Requests of the transmission phase as they come: 28 bytes (doc/proto.md, "Request message").
 *
 * Nothing is judged here except the magic; offsets too large for a number become Infinity, which no device covers.
 */
import { REQUEST_MAGIC, REQUEST_SIZE } from './protocol.js';

export interface Request {
  readonly flags: number;
  readonly type: number;
  /** The client's name for it, handed back as it came. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Bytes; Infinity: more than 2^53. */
  readonly offset: number;
  /** Bytes, 32 bits. */
  readonly length: number;
}

/** The request at `at`, or undefined where there is none: the client is out of step. */
export function parseRequest(buffer: Buffer, at: number): Request | undefined {
  if (buffer.readUInt32BE(at) !== REQUEST_MAGIC) return undefined;
  const high = buffer.readUInt32BE(at + 16);
  return {
    flags: buffer.readUInt16BE(at + 4),
    type: buffer.readUInt16BE(at + 6),
    cookieHigh: buffer.readUInt32BE(at + 8),
    cookieLow: buffer.readUInt32BE(at + 12),
    offset: high < 2 ** 21 ? high * 2 ** 32 + buffer.readUInt32BE(at + 20) : Number.POSITIVE_INFINITY,
    length: buffer.readUInt32BE(at + 24),
  };
}

/** For clients: a request's header in a buffer of its own, with room for `payload` bytes after it. */
export function requestBytes(request: Request, payload = 0): Buffer {
  const buffer = Buffer.allocUnsafe(REQUEST_SIZE + payload);
  buffer.writeUInt32BE(REQUEST_MAGIC, 0);
  buffer.writeUInt16BE(request.flags, 4);
  buffer.writeUInt16BE(request.type, 6);
  buffer.writeUInt32BE(request.cookieHigh, 8);
  buffer.writeUInt32BE(request.cookieLow, 12);
  buffer.writeUInt32BE(Math.floor(request.offset / 2 ** 32), 16);
  buffer.writeUInt32BE(request.offset % 2 ** 32, 20);
  buffer.writeUInt32BE(request.length, 24);
  return buffer;
}

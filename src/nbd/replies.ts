/**
 * Headers of replies, written into a buffer that is there already.
 *
 * Simple and structured replies of the transmission phase (doc/proto.md, "Simple reply message", "Structured reply
 * chunk message"), and replies to options.
 */
import type { WireError } from './error-map.js';
import {
  CHUNK_HEADER_SIZE,
  CHUNK_MAGIC,
  ChunkFlag,
  ChunkType,
  OPTION_REPLY_HEADER_SIZE,
  REPLY_MAGIC_HIGH,
  REPLY_MAGIC_LOW,
  SIMPLE_REPLY_MAGIC,
} from './protocol.js';
import type { Request } from './request.js';

/** Writes SIMPLE_REPLY_SIZE bytes. */
export function putSimpleReply(buffer: Buffer, at: number, errno: number, request: Request): void {
  buffer.writeUInt32BE(SIMPLE_REPLY_MAGIC, at);
  buffer.writeUInt32BE(errno, at + 4);
  buffer.writeUInt32BE(request.cookieHigh, at + 8);
  buffer.writeUInt32BE(request.cookieLow, at + 12);
}

/** Writes CHUNK_HEADER_SIZE bytes. `length`: of the payload that follows. */
export function putChunkHeader(
  buffer: Buffer,
  at: number,
  chunk: { flags: number; type: number; length: number },
  request: Request,
): void {
  buffer.writeUInt32BE(CHUNK_MAGIC, at);
  buffer.writeUInt16BE(chunk.flags, at + 4);
  buffer.writeUInt16BE(chunk.type, at + 6);
  buffer.writeUInt32BE(request.cookieHigh, at + 8);
  buffer.writeUInt32BE(request.cookieLow, at + 12);
  buffer.writeUInt32BE(chunk.length, at + 16);
}

/** Bytes of an 64-bit offset, up to 2^53. */
export function putOffset(buffer: Buffer, at: number, offset: number): void {
  buffer.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
  buffer.writeUInt32BE(offset % 2 ** 32, at + 4);
}

/** An error that ends a structured reply. */
export function errorChunk(error: WireError, request: Request): Buffer {
  const message = Buffer.from(error.message);
  const chunk = Buffer.alloc(CHUNK_HEADER_SIZE + 6 + message.length);
  const header = { flags: ChunkFlag.DONE, type: ChunkType.ERROR, length: 6 + message.length };
  putChunkHeader(chunk, 0, header, request);
  chunk.writeUInt32BE(error.errno, CHUNK_HEADER_SIZE);
  chunk.writeUInt16BE(message.length, CHUNK_HEADER_SIZE + 4);
  message.copy(chunk, CHUNK_HEADER_SIZE + 6);
  return chunk;
}

/** A reply to an option. */
export function optionReply(option: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const reply = Buffer.alloc(OPTION_REPLY_HEADER_SIZE + data.length);
  reply.writeUInt32BE(REPLY_MAGIC_HIGH, 0);
  reply.writeUInt32BE(REPLY_MAGIC_LOW, 4);
  reply.writeUInt32BE(option, 8);
  reply.writeUInt32BE(type, 12);
  reply.writeUInt32BE(data.length, 16);
  data.copy(reply, OPTION_REPLY_HEADER_SIZE);
  return reply;
}

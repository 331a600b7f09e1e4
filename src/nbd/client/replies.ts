/**
 * Reads the server's replies and gives each to the request it answers.
 *
 * Invariants: the data of a READ goes straight into the buffer of who asked; a reply can only write within it. A server
 * that answers what was not asked, or more than was asked, is cut off. Of a structured reply the last
 * chunk decides; a failure in any of its chunks is the failure of the request.
 */
import { VhdkitError } from '../../base/errors.js';
import { errnoName, fromWire } from '../error-map.js';
import type { ContextExtent } from '../export-table.js';
import type { InputQueue } from '../input-queue.js';
import {
  CHUNK_ERROR_BIT,
  CHUNK_HEADER_SIZE,
  CHUNK_MAGIC,
  ChunkFlag,
  ChunkType,
  SIMPLE_REPLY_MAGIC,
  SIMPLE_REPLY_SIZE,
} from '../protocol.js';

/** Longest payload of a chunk other than data: extents of a range, or an error. */
const MAX_SMALL_PAYLOAD = 8 << 20;

/** A request that waits for its reply. */
export interface Asked {
  readonly what: string;
  readonly offset: number;
  readonly length: number;
  /** Of a READ. */
  readonly buffer: Uint8Array | undefined;
  /** Bytes of the buffer that have come. */
  covered: number;
  failure: VhdkitError | undefined;
  /** Of BLOCK_STATUS, by context id. */
  readonly extents: Map<number, ContextExtent[]>;
  done(): void;
  failed(error: VhdkitError): void;
}

/** Data that is coming in: into the buffer of who asked. */
interface Incoming {
  readonly asked: Asked;
  readonly cookie: number;
  readonly target: Uint8Array;
  filled: number;
  readonly isLast: boolean;
}

export class ReplyReader {
  readonly #input: InputQueue;
  /** By cookie. */
  readonly #asked: Map<number, Asked>;
  #incoming: Incoming | undefined;

  constructor(input: InputQueue, asked: Map<number, Asked>) {
    this.#input = input;
    this.#asked = asked;
  }

  /** Uses what has come. The answer tells what is wrong with it, if anything is. */
  work(): string | undefined {
    for (;;) {
      const step = this.#incoming ? this.#receive(this.#incoming) : this.#reply();
      if (step === 'wait') return undefined;
      if (step !== 'next') return step;
    }
  }

  #receive(incoming: Incoming): string {
    incoming.filled += this.#input.moveInto(incoming.target, incoming.filled);
    if (incoming.filled < incoming.target.length) return 'wait';
    this.#incoming = undefined;
    incoming.asked.covered += incoming.filled;
    if (incoming.isLast) this.#finish(incoming.asked, incoming.cookie);
    return 'next';
  }

  #reply(): string {
    if (!this.#input.contiguous(4)) return 'wait';
    const magic = this.#input.buffer.readUInt32BE(this.#input.position);
    if (magic === SIMPLE_REPLY_MAGIC) return this.#simple();
    if (magic === CHUNK_MAGIC) return this.#chunk();
    return 'a reply without its magic';
  }

  #find(at: number): { cookie: number; asked: Asked } | undefined {
    const { buffer, position } = this.#input;
    const cookie = buffer.readUInt32BE(position + at + 4);
    const asked = buffer.readUInt32BE(position + at) === 0 ? this.#asked.get(cookie) : undefined;
    return asked && { cookie, asked };
  }

  #simple(): string {
    if (!this.#input.contiguous(SIMPLE_REPLY_SIZE)) return 'wait';
    const found = this.#find(8);
    const errno = this.#input.buffer.readUInt32BE(this.#input.position + 4);
    if (found === undefined) return 'a reply that nobody asked for';
    const { asked, cookie } = found;
    this.#input.skip(SIMPLE_REPLY_SIZE);
    if (errno === 0 && asked.buffer !== undefined) {
      this.#incoming = { asked, cookie, target: asked.buffer, filled: 0, isLast: true };
      return 'next';
    }
    if (errno !== 0) asked.failure = failure(asked, errno, '');
    this.#finish(asked, cookie);
    return 'next';
  }

  #chunk(): string {
    if (!this.#input.contiguous(CHUNK_HEADER_SIZE)) return 'wait';
    const { buffer, position } = this.#input;
    const isLast = (buffer.readUInt16BE(position + 4) & ChunkFlag.DONE) !== 0;
    const type = buffer.readUInt16BE(position + 6);
    const length = buffer.readUInt32BE(position + 16);
    const found = this.#find(8);
    if (found === undefined) return 'a chunk that nobody asked for';
    const { asked, cookie } = found;
    if (type === ChunkType.OFFSET_DATA) return this.#data(asked, cookie, length, isLast);
    if (length > MAX_SMALL_PAYLOAD) return 'a chunk too long';
    if (this.#input.length < CHUNK_HEADER_SIZE + length) return 'wait';
    this.#input.skip(CHUNK_HEADER_SIZE);
    const wrong = this.#small(asked, type, this.#input.take(length));
    if (wrong !== undefined) return wrong;
    if (isLast) this.#finish(asked, cookie);
    return 'next';
  }

  #data(asked: Asked, cookie: number, length: number, isLast: boolean): string {
    if (!this.#input.contiguous(CHUNK_HEADER_SIZE + 8)) return 'wait';
    const { buffer, position } = this.#input;
    const at = relative(asked, buffer, position + CHUNK_HEADER_SIZE);
    const count = length - 8;
    if (asked.buffer === undefined || count <= 0 || at < 0 || at + count > asked.length)
      return 'data outside of what was asked for';
    this.#input.skip(CHUNK_HEADER_SIZE + 8);
    this.#incoming = { asked, cookie, target: asked.buffer.subarray(at, at + count), filled: 0, isLast };
    return 'next';
  }

  /** Chunks that come whole. */
  #small(asked: Asked, type: number, data: Buffer): string | undefined {
    if (type === ChunkType.NONE) return data.length === 0 ? undefined : 'an empty chunk that is not';
    if (type === ChunkType.OFFSET_HOLE) return hole(asked, data);
    if (type === ChunkType.BLOCK_STATUS) return status(asked, data);
    if ((type & CHUNK_ERROR_BIT) === 0) return 'a chunk of unknown type';
    if (data.length < 6 || data.length < 6 + data.readUInt16BE(4)) return 'an error that is too short';
    const message = data.toString('utf8', 6, 6 + data.readUInt16BE(4));
    asked.failure ??= failure(asked, data.readUInt32BE(0), message);
    return undefined;
  }

  #finish(asked: Asked, cookie: number): void {
    this.#asked.delete(cookie);
    if (asked.failure) asked.failed(asked.failure);
    else if (asked.buffer !== undefined && asked.covered !== asked.length)
      asked.failed(failure(asked, 0, 'the reply is not complete'));
    else asked.done();
  }
}

function relative(asked: Asked, buffer: Buffer, at: number): number {
  return buffer.readUInt32BE(at) * 2 ** 32 + buffer.readUInt32BE(at + 4) - asked.offset;
}

function hole(asked: Asked, data: Buffer): string | undefined {
  if (data.length !== 12) return 'a hole that is too short';
  const at = relative(asked, data, 0);
  const length = data.readUInt32BE(8);
  if (asked.buffer === undefined || at < 0 || at + length > asked.length)
    return 'a hole outside of what was asked for';
  asked.buffer.fill(0, at, at + length);
  asked.covered += length;
  return undefined;
}

function status(asked: Asked, data: Buffer): string | undefined {
  if (data.length < 12 || data.length % 8 !== 4) return 'a status that is too short';
  const extents: ContextExtent[] = [];
  for (let at = 4; at < data.length; at += 8)
    extents.push({ length: data.readUInt32BE(at), flags: data.readUInt32BE(at + 4) });
  asked.extents.set(data.readUInt32BE(0), extents);
  return undefined;
}

function failure(asked: Asked, errno: number, message: string): VhdkitError {
  const reason = [errno === 0 ? '' : errnoName(errno), message].filter(Boolean).join(', ');
  return new VhdkitError(fromWire(errno, message), `The NBD server could not ${asked.what}: ${reason}`, {
    operation: asked.what,
    context: { offset: asked.offset, length: asked.length },
  });
}

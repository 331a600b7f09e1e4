/**
 * WRITE: the one command whose payload follows it.
 *
 * Short payloads that have come whole are written from the chunk they came in, or a copy where most of it is other
 * things. Others are gathered in buffers of a mebibyte at most, and each is written as soon as it is full: a long
 * request needs no memory of its length, and writing begins while the rest is coming. A failure is answered when
 * all of the payload has come.
 */
import { KiB } from '../../base/bytes.js';
import type { InputQueue } from '../input-queue.js';
import { CommandFlag } from '../protocol.js';
import type { Request } from '../request.js';
import type { Session } from '../session.js';
import { PIECE } from './read.js';

/** Longest write that is tried at once: it holds up all other connections for the time of a copy. */
const LONGEST_NOW = 256 * KiB;
/** A write that is not done at once keeps the chunk it came in only if it is this part of it at least. */
const SMALLEST_SHARE = 1 / 4;

function isDurable(request: Request): boolean {
  return (request.flags & CommandFlag.FUA) !== 0;
}

/** Writes bytes at once where the device can. True: answered. */
function writeNow(session: Session, request: Request, bytes: Uint8Array): boolean {
  if (isDurable(request) || bytes.length > LONGEST_NOW || !session.device.writeNow) return false;
  try {
    if (!session.device.writeNow(bytes, request.offset)) return false;
    session.ok(request);
  } catch (error) {
    session.fail(request, error);
  }
  return true;
}

/** A write whose payload is still coming. */
export class IncomingWrite {
  readonly #session: Session;
  readonly #request: Request;
  readonly #end: number;
  /** Where the next piece goes. */
  #at: number;
  #buffer: Buffer | undefined;
  #length = 0;
  #filled = 0;
  #failure: { error: unknown } | undefined;
  readonly #writes: Promise<void>[] = [];

  constructor(session: Session, request: Request) {
    this.#session = session;
    this.#request = request;
    this.#at = request.offset;
    this.#end = request.offset + request.length;
  }

  /** Uses what came. `done`: all of it came, and the answer will follow; `memory`: there is none for the next piece. */
  take(input: InputQueue): 'done' | 'input' | 'memory' {
    while (this.#at < this.#end) {
      if (this.#buffer === undefined && !this.#begin()) return 'memory';
      if (this.#buffer === undefined) break;
      this.#filled += input.moveInto(this.#buffer.subarray(0, this.#length), this.#filled);
      if (this.#filled < this.#length) return 'input';
      this.#piece(this.#buffer);
    }
    return 'done';
  }

  /** Nothing more comes. What was begun goes on to its end. */
  abandon(): void {
    if (this.#buffer !== undefined) this.#release(this.#buffer, this.#length);
    this.#buffer = undefined;
    this.#session.run(this.#request, () => this.#settled());
  }

  #begin(): boolean {
    const length = Math.min(PIECE - (this.#at % PIECE), this.#end - this.#at);
    if (!this.#session.account.take(length)) return false;
    this.#buffer = this.#session.buffers.lend(length);
    this.#length = length;
    this.#filled = 0;
    return true;
  }

  #piece(buffer: Buffer): void {
    const length = this.#length;
    const offset = this.#at;
    const bytes = buffer.subarray(0, length);
    this.#buffer = undefined;
    this.#at += length;
    if (length === this.#request.length) {
      this.#only(buffer, bytes);
      return;
    }
    if (this.#failure === undefined) {
      this.#writes.push(this.#writePiece(bytes, offset).finally(() => this.#pieceEnded(buffer, length)));
    } else {
      this.#release(buffer, length);
    }
    if (this.#at === this.#end) this.#session.run(this.#request, () => this.#finish());
  }

  /** Never rejects: the first failure is the request's. */
  async #writePiece(bytes: Uint8Array, offset: number): Promise<void> {
    try {
      await this.#session.device.write(bytes, offset);
    } catch (error) {
      this.#failure ??= { error };
    }
  }

  /** The next piece may be waiting for what this one held. */
  #pieceEnded(buffer: Buffer, length: number): void {
    this.#release(buffer, length);
    this.#session.progress();
  }

  /** The whole request in one piece. */
  #only(buffer: Buffer, bytes: Uint8Array): void {
    const request = this.#request;
    if (writeNow(this.#session, request, bytes)) {
      this.#release(buffer, bytes.length);
      return;
    }
    this.#session.run(request, async () => {
      try {
        await this.#session.device.write(bytes, request.offset, { durable: isDurable(request) });
        this.#session.ok(request);
      } finally {
        this.#release(buffer, bytes.length);
      }
    });
  }

  async #settled(): Promise<void> {
    await Promise.all(this.#writes);
  }

  async #finish(): Promise<void> {
    await this.#settled();
    if (this.#failure) throw this.#failure.error;
    if (isDurable(this.#request)) await this.#session.device.flush();
    this.#session.ok(this.#request);
  }

  #release(buffer: Buffer, length: number): void {
    this.#session.buffers.release(buffer);
    this.#session.account.give(length);
  }
}

/** A write whose payload has come whole, in one chunk. False: there is no memory for it now. */
export function writeFromChunk(session: Session, request: Request, input: InputQueue): boolean {
  const { length, offset } = request;
  // Taken first: whether the device takes it at once is known only after the bytes are off the queue.
  if (!session.account.take(length)) return false;
  const bytes = input.take(length);
  if (writeNow(session, request, bytes)) {
    session.account.give(length);
    return true;
  }
  const copy = copyOfSmall(session, bytes);
  session.run(request, async () => {
    try {
      const own = copy?.subarray(0, length) ?? bytes;
      await session.device.write(own, offset, { durable: isDurable(request) });
      session.ok(request);
    } finally {
      if (copy) session.buffers.release(copy);
      session.account.give(length);
    }
  });
  return true;
}

/** Bytes that would keep a much larger chunk in memory, which nobody counts, are copied out of it. */
function copyOfSmall(session: Session, bytes: Buffer): Buffer | undefined {
  if (bytes.length >= bytes.buffer.byteLength * SMALLEST_SHARE) return undefined;
  const copy = session.buffers.lend(bytes.length);
  bytes.copy(copy);
  return copy;
}

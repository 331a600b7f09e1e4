/**
 * The transmission phase of a connection: requests out of the input, one after the other, each begun as soon as there is
 * memory for it.
 *
 * Invariants: requests are begun in the order they came and answered in any. A turn begins `turnRequests` requests and moves
 * `turnBytes` bytes at most; then other connections have theirs. While memory, replies or requests under way are at their
 * limits nothing is begun, and, because the input is not used, nothing more is received. The payload of a write
 * that is refused is dropped as it comes.
 */

import { blockStatusCost, startBlockStatus } from './commands/block-status.js';
import { cacheCost, startCache } from './commands/cache.js';
import { startFlush, startTrim, startWriteZeroes } from './commands/change.js';
import { readCost, startRead } from './commands/read.js';
import { refusal, type Terms } from './commands/refusal.js';
import { IncomingWrite, writeFromChunk } from './commands/write.js';
import type { WireError } from './error-map.js';
import { isReadOnly } from './export-info.js';
import type { PhaseWaits } from './handshake.js';
import type { InputQueue } from './input-queue.js';
import { Command, REQUEST_SIZE } from './protocol.js';
import { parseRequest, type Request } from './request.js';
import type { Session } from './session.js';

/** What the transmission ended with. */
export interface TransmissionOutcomes {
  /** The client is done: close when everything is answered. */
  finished(): void;
  /** Nobody can tell where the next message begins. */
  broken(what: string): void;
}

/** Bytes a command holds before it is begun; none where there is nothing. */
const COSTS: Readonly<Record<number, (session: Session, request: Request) => number>> = {
  [Command.READ]: readCost,
  [Command.CACHE]: cacheCost,
  [Command.BLOCK_STATUS]: blockStatusCost,
};

/** The commands without payload. */
const STARTS: Readonly<Record<number, (session: Session, request: Request) => void>> = {
  [Command.READ]: startRead,
  [Command.FLUSH]: startFlush,
  [Command.TRIM]: startTrim,
  [Command.CACHE]: startCache,
  [Command.WRITE_ZEROES]: startWriteZeroes,
  [Command.BLOCK_STATUS]: startBlockStatus,
};

export class Transmission {
  readonly #session: Session;
  readonly #input: InputQueue;
  readonly #outcomes: TransmissionOutcomes;
  readonly #terms: Terms;
  /** Begun as soon as there is memory. */
  #next: Request | undefined;
  #incoming: IncomingWrite | undefined;
  /** The payload of a write that was refused, and the answer when it has gone by. */
  #dropping: { left: number; request: Request; error: WireError } | undefined;
  #isOver = false;
  requests = 0;

  constructor(session: Session, input: InputQueue, outcomes: TransmissionOutcomes) {
    this.#session = session;
    this.#input = input;
    this.#outcomes = outcomes;
    this.#terms = {
      device: session.device,
      readOnly: isReadOnly(session.exported),
      structured: session.structured,
      contexts: session.contexts.length > 0,
      requestBytes: session.limits.requestBytes,
    };
  }

  /** Whether the client owes bytes: it began a message and did not finish it. */
  get isMidMessage(): boolean {
    return this.#incoming !== undefined || this.#dropping !== undefined || this.#input.length > 0;
  }

  /** Nothing more is begun. */
  stop(): void {
    this.#isOver = true;
    this.#incoming?.abandon();
    this.#incoming = undefined;
    this.#dropping = undefined;
    this.#next = undefined;
    this.#session.account.withdraw();
    this.#session.serveWaiting();
  }

  work(): PhaseWaits {
    const { limits, output } = this.#session;
    if (!this.#session.serveWaiting()) return 'event';
    let bytes = 0;
    for (let count = 0; count < limits.turnRequests; count++) {
      if (this.#isOver) return 'event';
      if (this.#session.inFlight >= limits.inFlight) return 'event';
      // What the client has not taken is enough for now; reading ahead of it would only cool the processor's caches.
      if (output.pending >= limits.pendingBytes) return 'event';
      const begun = this.#step();
      if (typeof begun === 'string') return begun;
      bytes += begun;
      if (bytes >= limits.turnBytes) break;
    }
    return 'turn';
  }

  /** One request, or a part of one: the bytes it moves, or what is waited for. */
  #step(): number | PhaseWaits {
    if (this.#dropping) return this.#drop(this.#dropping);
    if (this.#incoming) return this.#receive(this.#incoming);
    if (this.#next) return this.#begin(this.#next);
    if (!this.#input.contiguous(REQUEST_SIZE)) return 'input';
    const request = parseRequest(this.#input.buffer, this.#input.position);
    if (request === undefined) return this.#break('a request without its magic');
    this.#input.skip(REQUEST_SIZE);
    this.requests += 1;
    if (request.type === Command.DISC) {
      this.stop();
      this.#outcomes.finished();
      return 'event';
    }
    const error = refusal(request, this.#terms);
    return error ? this.#refuse(request, error) : this.#begin(request);
  }

  #refuse(request: Request, error: WireError): number | PhaseWaits {
    if (request.type !== Command.WRITE) {
      this.#session.refuse(request, error);
      return 0;
    }
    // Twice the limit may be a client that does not know it; four gigabytes are not worth receiving.
    if (request.length > 2 * this.#terms.requestBytes) return this.#break('a payload too long');
    this.#dropping = { left: request.length, request, error };
    return this.#drop(this.#dropping);
  }

  #drop(dropping: { left: number; request: Request; error: WireError }): number | PhaseWaits {
    const dropped = this.#input.skip(dropping.left);
    dropping.left -= dropped;
    if (dropping.left > 0) return 'input';
    this.#dropping = undefined;
    this.#session.refuse(dropping.request, dropping.error);
    return dropped;
  }

  #begin(request: Request): number | PhaseWaits {
    if (request.type === Command.WRITE) return this.#write(request);
    const cost = this.#cost(request);
    if (cost > 0 && !this.#session.account.take(cost)) {
      this.#next = request;
      return 'event';
    }
    this.#next = undefined;
    STARTS[request.type]?.(this.#session, request);
    return cost;
  }

  #cost(request: Request): number {
    return COSTS[request.type]?.(this.#session, request) ?? 0;
  }

  #write(request: Request): number | PhaseWaits {
    if (this.#input.inOneChunk(request.length)) {
      const written = writeFromChunk(this.#session, request, this.#input);
      this.#next = written ? undefined : request;
      if (!written) return 'event';
      this.#session.bytesWritten += request.length;
      return request.length;
    }
    this.#next = undefined;
    this.#incoming = new IncomingWrite(this.#session, request);
    this.#session.bytesWritten += request.length;
    return this.#receive(this.#incoming);
  }

  #receive(incoming: IncomingWrite): number | PhaseWaits {
    const before = this.#input.length;
    const state = incoming.take(this.#input);
    if (state === 'input') return 'input';
    if (state === 'memory') return 'event';
    this.#incoming = undefined;
    return before - this.#input.length;
  }

  #break(what: string): PhaseWaits {
    this.stop();
    this.#outcomes.broken(what);
    return 'event';
  }
}

/**
 * What the commands of the transmission phase share: the export, where replies go, and the memory they may take.
 *
 * Invariant: every request is answered exactly once, by `ok`, `fail` or the last chunk of a structured reply; after the
 * connection has ended, answers are dropped. `inFlight` counts requests that are not answered yet.
 */
import type { BlockDevice } from '../block/block-device.js';
import { toWire, type WireError } from './error-map.js';
import type { NbdExport } from './export-table.js';
import type { NbdLimits } from './limits.js';
import type { MemoryAccount } from './memory-account.js';
import type { ChosenContext } from './negotiation.js';
import type { Output } from './output.js';
import { CHUNK_HEADER_SIZE, ChunkFlag, ChunkType, Command, Errno, SIMPLE_REPLY_SIZE } from './protocol.js';
import type { RecycledBuffers } from './recycled-buffers.js';
import { errorChunk, putChunkHeader, putSimpleReply } from './replies.js';
import type { Request } from './request.js';

/** What a connection lends to its session. */
export interface SessionParts
  extends Pick<
    Session,
    'exported' | 'structured' | 'contexts' | 'output' | 'account' | 'buffers' | 'limits'
  > {
  /** A request failed for a reason of ours. */
  onFailure(request: Request, error: unknown): void;
  /** What should never throw did: the connection is of no use any more. */
  onFault(error: unknown): void;
  /** A request ended: its reply is to be sent, and what was held back may go on. Called very often. */
  onProgress(): void;
}

export class Session {
  readonly exported: NbdExport;
  readonly device: BlockDevice;
  readonly structured: boolean;
  readonly contexts: readonly ChosenContext[];
  readonly output: Output;
  readonly account: MemoryAccount;
  readonly buffers: RecycledBuffers;
  readonly limits: NbdLimits;
  bytesRead = 0;
  bytesWritten = 0;
  inFlight = 0;
  /** The socket is gone: nothing that is answered arrives. */
  isClosed = false;
  readonly #parts: SessionParts;
  /** Requests that wait for memory in the middle of their work, in order. */
  readonly #waiting: { bytes: number; go: (granted: boolean) => void }[] = [];

  constructor(parts: SessionParts) {
    this.exported = parts.exported;
    this.device = parts.exported.device;
    this.structured = parts.structured;
    this.contexts = parts.contexts;
    this.output = parts.output;
    this.account = parts.account;
    this.buffers = parts.buffers;
    this.limits = parts.limits;
    this.#parts = parts;
  }

  /** Done, nothing to tell. For READ of nothing, too. */
  ok(request: Request): void {
    if (this.isClosed) return;
    if (this.structured && request.type === Command.READ) {
      const at = this.output.reserve(CHUNK_HEADER_SIZE);
      const chunk = { flags: ChunkFlag.DONE, type: ChunkType.NONE, length: 0 };
      putChunkHeader(this.output.slab, at, chunk, request);
      this.output.commit(CHUNK_HEADER_SIZE);
      return;
    }
    const at = this.output.reserve(SIMPLE_REPLY_SIZE);
    putSimpleReply(this.output.slab, at, Errno.NONE, request);
    this.output.commit(SIMPLE_REPLY_SIZE);
  }

  /** Not done, and the reason lies with the client. */
  refuse(request: Request, error: WireError): void {
    if (this.isClosed) return;
    if (this.structured) {
      this.output.put(errorChunk(error, request));
      return;
    }
    const at = this.output.reserve(SIMPLE_REPLY_SIZE);
    putSimpleReply(this.output.slab, at, error.errno, request);
    this.output.commit(SIMPLE_REPLY_SIZE);
  }

  /** Not done, whatever the reason. */
  fail(request: Request, error: unknown): void {
    const wire = toWire(error);
    // Both are for whoever runs the server: the image's storage is in trouble.
    if (wire.errno === Errno.EIO || wire.errno === Errno.ENOSPC) this.#parts.onFailure(request, error);
    this.refuse(request, wire);
  }

  /** Carries out what takes time; what it throws is the answer. */
  run(request: Request, work: () => Promise<void>): void {
    this.inFlight += 1;
    void this.#carryOut(request, work);
  }

  async #carryOut(request: Request, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failSafely(request, error);
    }
    this.inFlight -= 1;
    this.#parts.onProgress();
  }

  #failSafely(request: Request, error: unknown): void {
    try {
      this.fail(request, error);
    } catch (fault) {
      this.#parts.onFault(fault);
    }
  }

  /** A part of a request ended and gave back what it held. */
  progress(): void {
    this.#parts.onProgress();
  }

  /** Resolves when so many bytes are held for the caller; false: the connection has ended, and none are. */
  async admit(bytes: number): Promise<boolean> {
    if (this.isClosed) return false;
    if (this.#waiting.length > 0 || !this.account.take(bytes)) {
      const granted = await new Promise<boolean>((go) => this.#waiting.push({ bytes, go }));
      if (!granted) return false;
    }
    if (this.isClosed) this.account.give(bytes);
    return !this.isClosed;
  }

  /** Serves those who wait in the middle of their work. True: nobody waits any more. */
  serveWaiting(): boolean {
    for (;;) {
      const [first] = this.#waiting;
      if (first === undefined) return true;
      if (!this.isClosed && !this.account.take(first.bytes)) return false;
      this.#waiting.shift();
      first.go(!this.isClosed);
    }
  }

  /** The socket is gone. What is under way goes on to its end, unseen. */
  close(): void {
    this.isClosed = true;
    this.serveWaiting();
  }
}

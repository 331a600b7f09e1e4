/**
 * One client of the server: its socket, and which phase it is in.
 *
 * Invariants: what is received is bounded, because the socket is paused while the phase can't use its input; what
 * is done for it in one turn is bounded by the phase. It ends once: gracefully (what is under way is answered
 * and taken first) or at once. `whenOver` resolves when neither the socket nor any request of it is left, and so
 * nothing of it touches a device any more.
 */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { KiB } from '../base/bytes.js';
import type { CloseReason, ConnectionInfo, NbdListener } from './events.js';
import type { ExportTable, NbdExport } from './export-table.js';
import { type Agreed, Handshake, type PhaseWaits } from './handshake.js';
import { InputQueue } from './input-queue.js';
import type { NbdLimits } from './limits.js';
import { MemoryAccount, type MemoryBudget } from './memory-account.js';
import { Output } from './output.js';
import type { RecycledBuffers } from './recycled-buffers.js';
import { Session } from './session.js';
import { clientName, encryptAsServer, type ServerTls } from './tls.js';
import { Transmission } from './transmission.js';

/** Input that may wait unused before the socket is paused. */
const MAX_UNUSED = 128 * KiB;

export interface ConnectionParts {
  readonly id: number;
  readonly socket: Socket;
  readonly table: ExportTable;
  readonly tls: ServerTls | undefined;
  readonly limits: NbdLimits;
  readonly budget: MemoryBudget;
  readonly buffers: RecycledBuffers;
  readonly listener: NbdListener;
  /** Milliseconds of a Timer. */
  now(): number;
}

export class Connection {
  readonly #parts: ConnectionParts;
  readonly #input = new InputQueue();
  readonly #account: MemoryAccount;
  readonly #handshake: Handshake;
  readonly #peer: string;
  readonly #began: number;
  #socket: Socket | TLSSocket;
  #output: Output;
  #transmission: Transmission | undefined;
  #session: Session | undefined;
  #isEncrypted = false;
  /** Of the client, by its certificate. */
  #subject: string | undefined;
  /** While TLS is agreed upon, every loss is a failure of it. */
  #lossReason: CloseReason = 'lost';
  #waits: PhaseWaits = 'input';
  #isScheduled = false;
  #isPaused = false;
  /** The client sends no more. */
  #isHalf = false;
  /** How it will have ended; set when the end begins. */
  #ending: { reason: CloseReason; detail?: string } | undefined;
  #hasEnded = false;
  #isClosed = false;
  #received = 0;
  /** What was received and taken when something last moved, and when that was. */
  #progress = 0;
  #progressAt: number;
  readonly whenOver: Promise<void>;
  #over: () => void = () => undefined;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#socket = parts.socket;
    this.#peer = parts.socket.remoteAddress ?? '';
    this.#began = parts.now();
    this.#progressAt = this.#began;
    const { limits } = parts;
    this.#account = new MemoryAccount(parts.budget, limits.reserveBytes, limits.connectionBytes, () =>
      this.#turn(),
    );
    this.#output = this.#newOutput();
    this.#handshake = new Handshake({
      input: this.#input,
      output: () => this.#output,
      table: parts.table,
      limits,
      tls: parts.tls === undefined ? 'none' : parts.tls.optional ? 'offered' : 'required',
      outcomes: {
        encrypt: () => void this.#encrypt(),
        transmit: (agreed) => this.#transmit(agreed),
        close: (protocol) => this.#closeAfterReplies(protocol),
      },
    });
    this.whenOver = new Promise((resolve) => {
      this.#over = resolve;
    });
    this.#listen(this.#socket);
    this.#handshake.greet();
  }

  get exported(): NbdExport | undefined {
    return this.#session?.exported;
  }

  get isShakingHands(): boolean {
    return this.#session === undefined;
  }

  info(): ConnectionInfo {
    const session = this.#session;
    return {
      id: this.#parts.id,
      peer: this.#peer,
      phase: session ? 'transmission' : 'handshake',
      export: session?.exported.name,
      encrypted: this.#isEncrypted,
      requests: this.#transmission?.requests ?? 0,
      bytesRead: session?.bytesRead ?? 0,
      bytesWritten: session?.bytesWritten ?? 0,
      inFlight: session?.inFlight ?? 0,
      held: this.#account.held,
    };
  }

  /** Begins nothing new; ends when what is under way is answered and taken. */
  finish(reason: CloseReason): void {
    this.#ending ??= { reason };
    this.#transmission?.stop();
    this.#input.clear();
    if (this.#session === undefined) this.#socket.destroySoon();
    this.#endIfDone();
  }

  /** Ends at once; what is under way in the device goes on to its end. */
  destroy(reason: CloseReason, detail?: string): void {
    this.#ending ??= detail === undefined ? { reason } : { reason, detail };
    this.#transmission?.stop();
    this.#socket.destroy();
  }

  /** To be called now and then: ends it if it holds something up for too long. */
  checkTime(now: number, isUnderPressure: boolean): void {
    const { limits } = this.#parts;
    if (this.isShakingHands) {
      if (now - this.#began > limits.handshakeTime) this.destroy('handshake-time');
      return;
    }
    const progress = this.#received + this.#output.taken;
    const owes = this.#waits === 'input' && (this.#transmission?.isMidMessage ?? false);
    const isHeldUp = owes || this.#output.pending > 0 || this.#hasEnded;
    if (progress !== this.#progress || !isHeldUp) {
      this.#progress = progress;
      this.#progressAt = now;
      return;
    }
    const time = isUnderPressure || this.#hasEnded ? limits.stallTimeUnderPressure : limits.stallTime;
    if (now - this.#progressAt > time) this.destroy('stalled');
  }

  #newOutput(): Output {
    return new Output(this.#socket, this.#parts.buffers, (held) => {
      if (held > 0) this.#account.give(held);
      if (this.#waits === 'event') this.#turn();
      else this.#endIfDone();
    });
  }

  #listen(socket: Socket | TLSSocket): void {
    socket.on('data', (chunk: Buffer) => {
      this.#received += chunk.length;
      if (this.#ending) return;
      this.#input.push(chunk);
      if (this.#waits === 'input') this.#turn();
      else this.#pauseOrResume();
    });
    socket.on('end', () => {
      this.#isHalf = true;
      this.#turn();
    });
    socket.on('error', (error) => {
      this.#ending ??= { reason: this.#lossReason, detail: error.message };
    });
    socket.on('close', () => this.#closed());
  }

  #turn(): void {
    if (this.#isClosed) return;
    try {
      this.#work();
    } catch (error) {
      this.#cutOff(error);
    }
  }

  /** A mistake of the program costs this client its connection, and nobody else anything. */
  #cutOff(error: unknown): void {
    this.#parts.listener({ type: 'fault', id: this.#parts.id, error });
    this.destroy('fault');
  }

  /** Lets the phase use what came, sends what it answered, and sees to what comes next. */
  #work(): void {
    if (this.#ending === undefined) {
      const phase = this.#transmission ?? this.#handshake;
      this.#waits = phase.work();
      // The handshake ended: what came behind it is for the transmission.
      if (phase === this.#handshake && this.#transmission) this.#waits = this.#transmission.work();
    } else {
      // Nothing more is begun, but what was begun may wait for memory in the middle of its work.
      this.#session?.serveWaiting();
    }
    this.#output.flush();
    if (this.#waits === 'turn') this.#turnSoon();
    if (this.#isHalf && this.#waits === 'input')
      this.#ending ??= { reason: this.#isCutOff ? 'lost' : 'client' };
    this.#pauseOrResume();
    this.#endIfDone();
  }

  get #isCutOff(): boolean {
    return this.#transmission?.isMidMessage ?? false;
  }

  #turnSoon(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#turn();
    });
  }

  #pauseOrResume(): void {
    const pause = this.#waits !== 'input' && this.#input.length > MAX_UNUSED;
    if (pause === this.#isPaused || this.#isClosed) return;
    this.#isPaused = pause;
    if (pause) this.#socket.pause();
    else this.#socket.resume();
  }

  #transmit(agreed: Agreed): void {
    const { exported } = agreed;
    const session = new Session({
      ...agreed,
      output: this.#output,
      account: this.#account,
      buffers: this.#parts.buffers,
      limits: this.#parts.limits,
      onProgress: () => this.#requestEnded(),
      onFailure: ({ type }, error) =>
        this.#parts.listener({
          type: 'failed',
          id: this.#parts.id,
          export: exported.name,
          command: type,
          error,
        }),
      onFault: (error) => this.#cutOff(error),
    });
    this.#session = session;
    this.#transmission = new Transmission(session, this.#input, {
      finished: () => this.finish('client'),
      broken: (what) => this.#closeAfterReplies(what),
    });
    this.#parts.listener({
      type: 'ready',
      id: this.#parts.id,
      export: exported.name,
      encrypted: this.#isEncrypted,
      ...(this.#subject === undefined ? {} : { subject: this.#subject }),
    });
  }

  #requestEnded(): void {
    if (this.#isClosed) this.#finishIfOver();
    else this.#turnSoon();
  }

  /** The acknowledgement goes in the clear; whatever else came in the clear with STARTTLS is not trusted. */
  async #encrypt(): Promise<void> {
    const { tls, socket } = this.#parts;
    if (tls === undefined || this.#input.length > 0) return this.#closeAfterReplies('data behind STARTTLS');
    this.#lossReason = 'tls';
    socket.pause();
    socket.removeAllListeners('data');
    socket.removeAllListeners('end');
    try {
      const secure = await encryptAsServer(socket, tls);
      socket.removeAllListeners('close');
      this.#socket = secure;
      this.#output = this.#newOutput();
      this.#isEncrypted = true;
      this.#subject = clientName(secure);
      this.#lossReason = 'lost';
      this.#handshake.encrypted();
      this.#waits = 'input';
      this.#listen(secure);
    } catch (error) {
      this.destroy('tls', error instanceof Error ? error.message : String(error));
    }
  }

  #closeAfterReplies(protocol: string | undefined): void {
    this.#ending ??= protocol === undefined ? { reason: 'client' } : { reason: 'protocol', detail: protocol };
    this.#input.clear();
    this.#output.flush();
    this.#socket.destroySoon();
  }

  /** Ends the socket when nothing is left to be sent; the client closes its end, or the time limit does. */
  #endIfDone(): void {
    if (this.#ending === undefined || this.#hasEnded || this.#isClosed) return;
    if ((this.#session?.inFlight ?? 0) > 0 || this.#output.pending > 0) return;
    this.#hasEnded = true;
    if (this.#isHalf) this.#socket.destroySoon();
    else this.#socket.end();
  }

  #closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#ending ??= { reason: this.#lossReason };
    this.#transmission?.stop();
    this.#session?.close();
    this.#output.close();
    this.#account.close();
    this.#input.clear();
    this.#parts.listener({ type: 'closed', id: this.#parts.id, ...this.#ending });
    this.#finishIfOver();
  }

  #finishIfOver(): void {
    if ((this.#session?.inFlight ?? 0) === 0) this.#over();
  }
}

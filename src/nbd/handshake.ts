/**
 * The handshake of a connection, fixed newstyle: greeting, flags, options until one of them goes on.
 *
 * Invariants: after any option the server is in step (its data is used or skipped whole); a client that breaks the framing
 * is cut off. Where TLS is demanded, nothing but STARTTLS and ABORT is answered before it. Options and their
 * length are limited; time is limited by the connection.
 */
import type { ExportTable, NbdExport } from './export-table.js';
import type { InputQueue } from './input-queue.js';
import type { NbdLimits } from './limits.js';
import type {
  Agreement,
  ChosenContext,
  Negotiation,
  OptionHandler,
  OptionOutcome,
  TlsState,
} from './negotiation.js';
import { abort } from './options/abort.js';
import { exportName } from './options/export-name.js';
import { go, info } from './options/info.js';
import { list } from './options/list.js';
import { listMetaContext, setMetaContext } from './options/meta-context.js';
import { starttls } from './options/starttls.js';
import { structuredReply } from './options/structured-reply.js';
import type { Output } from './output.js';
import {
  CLIENT_FLAGS_SIZE,
  GREETING_SIZE,
  HandshakeFlag,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  OPTION_HEADER_SIZE,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  Option,
  OptionReply,
} from './protocol.js';
import { optionReply } from './replies.js';

const HANDLERS: ReadonlyMap<number, OptionHandler> = new Map([
  [Option.EXPORT_NAME, exportName],
  [Option.ABORT, abort],
  [Option.LIST, list],
  [Option.STARTTLS, starttls],
  [Option.INFO, info],
  [Option.GO, go],
  [Option.STRUCTURED_REPLY, structuredReply],
  [Option.LIST_META_CONTEXT, listMetaContext],
  [Option.SET_META_CONTEXT, setMetaContext],
]);

/** Replies that may wait for a client that sends options without reading. */
const MAX_PENDING = 1 << 20;

/** What the handshake ended with. */
export interface Agreed {
  readonly exported: NbdExport;
  readonly structured: boolean;
  readonly contexts: readonly ChosenContext[];
}

export interface HandshakeOutcomes {
  /** Nothing more is read until the socket is encrypted and `Handshake.encrypted` called. */
  encrypt(): void;
  transmit(agreed: Agreed): void;
  /** Close after the replies; `protocol` says what was wrong, undefined: the client asked for it. */
  close(protocol: string | undefined): void;
}

/** What a phase of a connection waits for: bytes, its next turn (there is more to do), or something else. */
export type PhaseWaits = 'input' | 'turn' | 'event';

export class Handshake {
  readonly #input: InputQueue;
  readonly #output: () => Output;
  readonly #table: ExportTable;
  readonly #limits: NbdLimits;
  readonly #outcomes: HandshakeOutcomes;
  #tls: TlsState;
  #flags: number | undefined;
  #options = 0;
  /** Bytes of an option's data that are dropped as they come. */
  #skip = 0;
  #agreed: Agreement = { structured: false, contexts: undefined };

  constructor(parts: {
    input: InputQueue;
    output: () => Output;
    table: ExportTable;
    limits: NbdLimits;
    tls: TlsState;
    outcomes: HandshakeOutcomes;
  }) {
    this.#input = parts.input;
    this.#output = parts.output;
    this.#table = parts.table;
    this.#limits = parts.limits;
    this.#tls = parts.tls;
    this.#outcomes = parts.outcomes;
  }

  greet(): void {
    const greeting = Buffer.alloc(GREETING_SIZE);
    greeting.writeUInt32BE(NBD_MAGIC_HIGH, 0);
    greeting.writeUInt32BE(NBD_MAGIC_LOW, 4);
    greeting.writeUInt32BE(OPTION_MAGIC_HIGH, 8);
    greeting.writeUInt32BE(OPTION_MAGIC_LOW, 12);
    greeting.writeUInt16BE(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES, 16);
    this.#output().put(greeting);
    this.#output().flush();
  }

  /** The connection is encrypted: what was agreed upon in the clear is forgotten. */
  encrypted(): void {
    this.#tls = 'active';
    this.#agreed = { structured: false, contexts: undefined };
  }

  /** Uses what came; one outcome at most is called. */
  work(): PhaseWaits {
    if (this.#flags === undefined && !this.#readFlags()) return 'input';
    for (let count = 0; count < this.#limits.turnRequests; count++) {
      if (this.#output().pending > MAX_PENDING) return 'event';
      this.#skip -= this.#input.skip(this.#skip);
      if (this.#skip > 0 || !this.#input.contiguous(OPTION_HEADER_SIZE)) return 'input';
      const step = this.#option();
      if (step !== 'next') return step;
    }
    return 'turn';
  }

  #readFlags(): boolean {
    if (!this.#input.contiguous(CLIENT_FLAGS_SIZE)) return false;
    const flags = this.#input.buffer.readUInt32BE(this.#input.position);
    this.#input.skip(CLIENT_FLAGS_SIZE);
    if ((flags & ~(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)) !== 0) {
      this.#outcomes.close('unknown client flags');
      return false;
    }
    this.#flags = flags;
    return true;
  }

  /** One option, whose header is there. */
  #option(): PhaseWaits | 'next' {
    const { buffer, position } = this.#input;
    const high = buffer.readUInt32BE(position);
    const low = buffer.readUInt32BE(position + 4);
    const option = buffer.readUInt32BE(position + 8);
    const length = buffer.readUInt32BE(position + 12);
    if (high !== OPTION_MAGIC_HIGH || low !== OPTION_MAGIC_LOW)
      return this.#breakOff('an option without its magic');
    if (length <= this.#limits.optionBytes && this.#input.length < OPTION_HEADER_SIZE + length)
      return 'input';
    this.#options += 1;
    if (this.#options > this.#limits.options) return this.#breakOff('too many options');
    this.#input.skip(OPTION_HEADER_SIZE);
    if (length > this.#limits.optionBytes) {
      if (option === Option.EXPORT_NAME) return this.#breakOff('a name too long');
      this.#skip = length;
      this.#reply(option, OptionReply.ERR_TOO_BIG, Buffer.from('too much data'));
      return 'next';
    }
    return this.#follow(this.#answer(option, this.#input.take(length)));
  }

  #answer(option: number, data: Buffer): OptionOutcome {
    if (this.#tls === 'required' && option !== Option.STARTTLS && option !== Option.ABORT) {
      if (option === Option.EXPORT_NAME) return { next: 'close', protocol: 'EXPORT_NAME before TLS' };
      this.#reply(option, OptionReply.ERR_TLS_REQD, Buffer.from('this server wants TLS'));
      return undefined;
    }
    const handler = HANDLERS.get(option);
    if (handler) return handler(this.#negotiation(option), data);
    this.#reply(option, OptionReply.ERR_UNSUP);
    return undefined;
  }

  #follow(outcome: OptionOutcome): PhaseWaits | 'next' {
    if (outcome === undefined) return 'next';
    this.#output().flush();
    if (outcome.next === 'close') {
      this.#outcomes.close(outcome.protocol);
    } else if (outcome.next === 'encrypt') {
      this.#outcomes.encrypt();
    } else {
      const { exported } = outcome;
      const { structured, contexts } = this.#agreed;
      const chosen = contexts?.exported === exported ? contexts.chosen : [];
      this.#outcomes.transmit({ exported, structured, contexts: chosen });
    }
    return 'event';
  }

  #negotiation(option: number): Negotiation {
    return {
      table: this.#table,
      limits: this.#limits,
      tls: this.#tls,
      noZeroes: ((this.#flags ?? 0) & HandshakeFlag.NO_ZEROES) !== 0,
      agreed: this.#agreed,
      reply: (type, data) => this.#reply(option, type, data),
      raw: (bytes) => this.#output().put(bytes),
    };
  }

  #reply(option: number, type: number, data?: Buffer): void {
    this.#output().put(optionReply(option, type, data));
  }

  #breakOff(what: string): PhaseWaits {
    this.#outcomes.close(what);
    return 'event';
  }
}

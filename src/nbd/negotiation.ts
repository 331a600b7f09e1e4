/**
 * What the options of the handshake share: the state they negotiate, how their data is read and answered.
 *
 * One file per option in options/, one loop over them in handshake.ts.
 */
import type { ExportTable, MetaContext, NbdExport } from './export-table.js';
import type { NbdLimits } from './limits.js';
import { MAX_STRING, OptionReply } from './protocol.js';

/** A meta context that the client chose. `context` undefined: `base:allocation`, which the device tells. */
export interface ChosenContext {
  readonly id: number;
  readonly name: string;
  readonly context: MetaContext | undefined;
}

/** Encryption of a connection: not to be had, to be had, demanded, there. */
export type TlsState = 'none' | 'offered' | 'required' | 'active';

/** What options agreed upon so far. */
export interface Agreement {
  structured: boolean;
  /** What SET_META_CONTEXT left; good for this export only. */
  contexts: { exported: NbdExport; chosen: readonly ChosenContext[] } | undefined;
}

export interface Negotiation {
  readonly table: ExportTable;
  readonly limits: NbdLimits;
  readonly tls: TlsState;
  /** The client does not want the padding after EXPORT_NAME. */
  readonly noZeroes: boolean;
  readonly agreed: Agreement;
  reply(type: number, data?: Buffer): void;
  /** Bytes without a reply header: for EXPORT_NAME. */
  raw(bytes: Buffer): void;
}

/** What follows after an option; nothing: the next option. */
export type OptionOutcome =
  | undefined
  | { next: 'close'; protocol?: string }
  | { next: 'encrypt' }
  | { next: 'transmit'; exported: NbdExport };

export type OptionHandler = (negotiation: Negotiation, data: Buffer) => OptionOutcome;

/** Answers with an error and a text for people. */
export function refuse(negotiation: Negotiation, type: number, text: string): OptionOutcome {
  negotiation.reply(type, Buffer.from(text));
  return undefined;
}

export function invalid(negotiation: Negotiation, text: string): OptionOutcome {
  return refuse(negotiation, OptionReply.ERR_INVALID, text);
}

const decoder = new TextDecoder('utf-8', { fatal: true });

/** A string of the protocol: UTF-8, no NUL, at most 4096 bytes. Undefined where it is none. */
export function decodeString(bytes: Buffer): string | undefined {
  if (bytes.length > MAX_STRING || bytes.includes(0)) return undefined;
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** Reads the fields of an option's data one after the other; `undefined` where the data ends too early. */
export class OptionData {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#data.length;
  }

  u16(): number | undefined {
    if (this.#at + 2 > this.#data.length) return undefined;
    this.#at += 2;
    return this.#data.readUInt16BE(this.#at - 2);
  }

  u32(): number | undefined {
    if (this.#at + 4 > this.#data.length) return undefined;
    this.#at += 4;
    return this.#data.readUInt32BE(this.#at - 4);
  }

  /** A 32-bit length, and a string so long. */
  string(): string | undefined {
    const length = this.u32();
    if (length === undefined || this.#at + length > this.#data.length) return undefined;
    this.#at += length;
    return decodeString(this.#data.subarray(this.#at - length, this.#at));
  }
}

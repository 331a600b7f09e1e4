/**
 * The client's side of the handshake: fixed newstyle, TLS where asked for, structured replies where the server has them.
 *
 * Everything the server sends is limited in length and number before it is kept.
 */
import { VhdkitError } from '../../base/errors.js';
import type { Timer } from '../../base/timer.js';
import { decodeString } from '../negotiation.js';
import {
  BASE_ALLOCATION,
  CLIENT_FLAGS_SIZE,
  GREETING_SIZE,
  HandshakeFlag,
  Info,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  OPTION_HEADER_SIZE,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_HEADER_SIZE,
  Option,
  OptionReply,
  REPLY_MAGIC_HIGH,
  REPLY_MAGIC_LOW,
} from '../protocol.js';
import type { NbdAddress } from '../server.js';
import type { ClientTls } from '../tls.js';
import { describeAddress } from './address.js';
import { openWire, type Wire } from './wire.js';

/** Longest reply to an option, and how many one option may have. */
const MAX_REPLY = 64 * 1024;
const MAX_REPLIES = 100_000;
const DEFAULT_PAYLOAD = 32 * 1024 * 1024;
const DEFAULT_TIME = 30_000;

export interface ConnectOptions {
  readonly address: NbdAddress;
  readonly timer: Timer;
  /** Encrypts, or fails. */
  readonly tls?: ClientTls;
  /** Milliseconds for connecting and for each option. Default: 30 seconds. */
  readonly time?: number;
}

export interface ListedExport {
  readonly name: string;
  readonly description: string;
}

/** What was agreed upon with the server. */
export interface RemoteExport {
  readonly name: string;
  readonly size: number;
  readonly flags: number;
  readonly structured: boolean;
  /** Bytes; 1, 4096 and 32 MiB where the server does not say. */
  readonly blockSize: number;
  readonly preferredSize: number;
  readonly payload: number;
  /** Ids by name. */
  readonly contexts: ReadonlyMap<string, number>;
}

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

export class ClientHandshake {
  readonly wire: Wire;
  readonly #timer: Timer;
  readonly #time: number;
  #structured = false;

  private constructor(wire: Wire, options: ConnectOptions) {
    this.wire = wire;
    this.#timer = options.timer;
    this.#time = options.time ?? DEFAULT_TIME;
  }

  /** @throws NOT_FOUND, PERMISSION_DENIED (TLS), IO_FAILED */
  static async connect(options: ConnectOptions): Promise<ClientHandshake> {
    const wire = await openWire(options.address);
    const handshake = new ClientHandshake(wire, options);
    await handshake.#within(async () => {
      await handshake.#greet();
      if (options.tls) await handshake.#encrypt(options.tls);
      const [answer] = await handshake.#option(Option.STRUCTURED_REPLY);
      handshake.#structured = answer?.type === OptionReply.ACK;
    });
    return handshake;
  }

  /** The server's exports. @throws PERMISSION_DENIED, IO_FAILED */
  async list(): Promise<ListedExport[]> {
    return this.#within(async () => {
      const replies = await this.#option(Option.LIST);
      this.#check(replies, 'list its exports');
      return replies.filter(({ type }) => type === OptionReply.SERVER).map(({ data }) => this.#listed(data));
    });
  }

  /** Chooses an export; the connection is then the device's. @throws NOT_FOUND, PERMISSION_DENIED, IO_FAILED */
  async go(name: string, contexts: readonly string[] = [BASE_ALLOCATION]): Promise<RemoteExport> {
    return this.#within(async () => {
      const ids =
        this.#structured && contexts.length > 0 ? await this.#setContexts(name, contexts) : new Map();
      const replies = await this.#option(Option.GO, goData(name));
      this.#check(replies, `open its export '${name}'`);
      return this.#agreed(name, replies, ids);
    });
  }

  /** Leaves without choosing an export. */
  async abort(): Promise<void> {
    this.wire.send(optionBytes(Option.ABORT, Buffer.alloc(0)));
    await this.#within(() => this.wire.end());
  }

  /** Runs a part of the handshake; the connection is of no use after a failure. */
  async #within<T>(work: () => Promise<T>): Promise<T> {
    const finished = new AbortController();
    const late = this.#timer.sleep(this.#time, finished.signal).then(() => {
      if (!finished.signal.aborted) this.wire.destroy(this.wire.lost('it does not answer'));
    });
    try {
      return await work();
    } catch (error) {
      if (!this.wire.failure && !isRefusal(error)) this.wire.destroy(error as VhdkitError);
      throw error;
    } finally {
      finished.abort();
      await late;
    }
  }

  async #greet(): Promise<void> {
    const greeting = await this.wire.read(GREETING_SIZE);
    const isNewstyle =
      greeting.readUInt32BE(0) === NBD_MAGIC_HIGH &&
      greeting.readUInt32BE(4) === NBD_MAGIC_LOW &&
      greeting.readUInt32BE(8) === OPTION_MAGIC_HIGH &&
      greeting.readUInt32BE(12) === OPTION_MAGIC_LOW;
    const flags = greeting.readUInt16BE(16);
    if (!isNewstyle || (flags & HandshakeFlag.FIXED_NEWSTYLE) === 0)
      throw this.wire.broken('it does not greet as fixed newstyle');
    const answer = Buffer.alloc(CLIENT_FLAGS_SIZE);
    answer.writeUInt32BE(flags & (HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES));
    this.wire.send(answer);
  }

  async #encrypt(tls: ClientTls): Promise<void> {
    const replies = await this.#option(Option.STARTTLS);
    this.#check(replies, 'encrypt');
    if (this.wire.input.length > 0) throw this.wire.broken('it sends in the clear after agreeing to encrypt');
    await this.wire.encrypt(tls);
  }

  async #setContexts(name: string, contexts: readonly string[]): Promise<Map<string, number>> {
    const queries = contexts.map((query) => lengthAndText(query));
    const count = Buffer.alloc(4);
    count.writeUInt32BE(contexts.length);
    const data = Buffer.concat([lengthAndText(name), count, ...queries]);
    const ids = new Map<string, number>();
    // A server without contexts refuses the option, which is no reason not to go on.
    for (const reply of await this.#option(Option.SET_META_CONTEXT, data)) {
      if (reply.type !== OptionReply.META_CONTEXT || reply.data.length < 4) continue;
      const context = decodeString(reply.data.subarray(4));
      if (context !== undefined) ids.set(context, reply.data.readUInt32BE(0));
    }
    return ids;
  }

  /** All replies to an option; the last is an acknowledgement or an error. */
  async #option(option: number, data: Buffer = Buffer.alloc(0)): Promise<Reply[]> {
    this.wire.send(optionBytes(option, data));
    const replies: Reply[] = [];
    while (replies.length < MAX_REPLIES) {
      const header = await this.wire.read(OPTION_REPLY_HEADER_SIZE);
      const isReply =
        header.readUInt32BE(0) === REPLY_MAGIC_HIGH &&
        header.readUInt32BE(4) === REPLY_MAGIC_LOW &&
        header.readUInt32BE(8) === option;
      const type = header.readUInt32BE(12);
      const length = header.readUInt32BE(16);
      if (!isReply || length > MAX_REPLY)
        throw this.wire.broken('an answer to another option, or one too long');
      replies.push({ type, data: Buffer.from(await this.wire.read(length)) });
      if (type === OptionReply.ACK || type >= OptionReply.ERR_UNSUP) return replies;
    }
    throw this.wire.broken('answers without end');
  }

  #check(replies: readonly Reply[], what: string): void {
    const last = replies.at(-1);
    if (last?.type === OptionReply.ACK) return;
    const reason = decodeString(last?.data ?? Buffer.alloc(0)) || `error ${(last?.type ?? 0) - 0x80000000}`;
    const message = `The NBD server at ${describeAddress(this.wire.address)} refuses to ${what}: ${reason}`;
    if (last?.type === OptionReply.ERR_UNKNOWN)
      throw new VhdkitError('NOT_FOUND', message, {
        hint: 'Ask the server for its exports, and choose one.',
      });
    if (last?.type === OptionReply.ERR_TLS_REQD)
      throw new VhdkitError('PERMISSION_DENIED', message, { hint: 'Connect with TLS (nbds://).' });
    if (last?.type === OptionReply.ERR_POLICY)
      throw new VhdkitError('PERMISSION_DENIED', message, { hint: 'Ask whoever runs the server.' });
    throw new VhdkitError('UNSUPPORTED', message, { hint: 'Use a server of fixed newstyle NBD.' });
  }

  #listed(data: Buffer): ListedExport {
    const length = data.length < 4 ? 0 : data.readUInt32BE(0);
    if (data.length < 4 + length) throw this.wire.broken('a list entry that is too short');
    const name = decodeString(data.subarray(4, 4 + length));
    if (name === undefined) throw this.wire.broken('a name that is no text');
    return { name, description: decodeString(data.subarray(4 + length)) ?? '' };
  }

  #agreed(name: string, replies: readonly Reply[], contexts: ReadonlyMap<string, number>): RemoteExport {
    const information = (type: number, length: number): Buffer | undefined =>
      replies.find(
        (reply) =>
          reply.type === OptionReply.INFO &&
          reply.data.length === length &&
          reply.data.readUInt16BE(0) === type,
      )?.data;
    const size = information(Info.EXPORT, 12);
    if (size === undefined) throw this.wire.broken('it does not tell the size of its export');
    const bytes = Number(size.readBigUInt64BE(2));
    if (!Number.isSafeInteger(bytes)) throw this.wire.broken('a size that makes no sense');
    const blocks = information(Info.BLOCK_SIZE, 14);
    const blockSize = blocks?.readUInt32BE(2) ?? 1;
    const preferredSize = blocks?.readUInt32BE(6) ?? 4096;
    const payload = Math.min(blocks?.readUInt32BE(10) ?? DEFAULT_PAYLOAD, DEFAULT_PAYLOAD);
    if (!isPower(blockSize) || blockSize > 65536 || !isPower(preferredSize) || payload < blockSize)
      throw this.wire.broken('block sizes that make no sense');
    const structured = this.#structured;
    return {
      name,
      size: bytes,
      flags: size.readUInt16BE(10),
      structured,
      blockSize,
      preferredSize,
      payload,
      contexts,
    };
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof VhdkitError && error.code !== 'IO_FAILED';
}

function isPower(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

function lengthAndText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function goData(name: string): Buffer {
  const wanted = Buffer.alloc(4);
  wanted.writeUInt16BE(1);
  wanted.writeUInt16BE(Info.BLOCK_SIZE, 2);
  return Buffer.concat([lengthAndText(name), wanted]);
}

/** An option as it travels. */
export function optionBytes(option: number, data: Buffer): Buffer {
  const header = Buffer.alloc(OPTION_HEADER_SIZE);
  header.writeUInt32BE(OPTION_MAGIC_HIGH, 0);
  header.writeUInt32BE(OPTION_MAGIC_LOW, 4);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(data.length, 12);
  return Buffer.concat([header, data]);
}

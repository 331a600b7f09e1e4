/**
 * An export of an NBD server as a block device.
 *
 * Invariants: what the server does not offer is never sent: it is done by other means (zeros are written, FUA is a
 * flush) or refused. Requests longer than the server takes are split. After the connection is lost every request fails; a
 * lost connection is not made anew, since nobody could tell which writes the server still did.
 */
import { roundDown } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from '../../block/block-device.js';
import type { ContextExtent } from '../export-table.js';
import { AllocationFlag, BASE_ALLOCATION, Command, CommandFlag, TransmissionFlag } from '../protocol.js';
import { requestBytes } from '../request.js';
import { describeAddress } from './address.js';
import { ClientHandshake, type ConnectOptions, type RemoteExport } from './handshake.js';
import { type Asked, ReplyReader } from './replies.js';
import type { Wire } from './wire.js';

/** Requests that are sent and not answered; more wait. */
const MAX_IN_FLIGHT = 128;
/** Length of one TRIM, WRITE_ZEROES or BLOCK_STATUS. */
const MAX_RANGE = 1 << 30;
const ZEROS = new Uint8Array(1 << 20);

export interface OpenExportOptions extends ConnectOptions {
  readonly export: string;
  /** Meta contexts to be asked for. Default: `base:allocation`. */
  readonly contexts?: readonly string[];
}

/** @throws NOT_FOUND, PERMISSION_DENIED, UNSUPPORTED, IO_FAILED */
export async function openNbdExport(options: OpenExportOptions): Promise<NbdDevice> {
  const handshake = await ClientHandshake.connect(options);
  try {
    return new NbdDevice(handshake.wire, await handshake.go(options.export, options.contexts));
  } catch (error) {
    if (!handshake.wire.failure) await handshake.abort();
    throw error;
  }
}

interface Part {
  type: number;
  flags: number;
  offset: number;
  length: number;
  payload?: Uint8Array;
  buffer?: Uint8Array;
}

const WHAT: Readonly<Record<number, string>> = {
  [Command.READ]: 'read',
  [Command.WRITE]: 'write',
  [Command.FLUSH]: 'flush',
  [Command.TRIM]: 'trim',
  [Command.WRITE_ZEROES]: 'write zeros',
  [Command.BLOCK_STATUS]: 'tell block status',
};

export class NbdDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly blockSize: number;
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities;
  readonly remote: RemoteExport;
  readonly #wire: Wire;
  readonly #asked = new Map<number, Asked>();
  readonly #waiting: (() => void)[] = [];
  #lastCookie = 0;

  constructor(wire: Wire, remote: RemoteExport) {
    this.#wire = wire;
    this.remote = remote;
    this.label = `nbd:${describeAddress(wire.address)}/${remote.name}`;
    this.size = remote.size;
    this.blockSize = remote.blockSize;
    this.preferredSize = Math.max(512, remote.preferredSize);
    const writable = !this.#offers(TransmissionFlag.READ_ONLY);
    this.capabilities = {
      writable,
      trim: writable && this.#offers(TransmissionFlag.SEND_TRIM),
      zero: writable && this.#offers(TransmissionFlag.SEND_WRITE_ZEROES),
      fastZero: writable && this.#offers(TransmissionFlag.SEND_FAST_ZERO),
      extents: remote.contexts.has(BASE_ALLOCATION),
      multiConn: this.#offers(TransmissionFlag.CAN_MULTI_CONN),
    };
    const reader = new ReplyReader(wire.input, this.#asked);
    wire.handOver(
      () => {
        const wrong = reader.work();
        if (wrong !== undefined) wire.destroy(wire.broken(wrong));
      },
      (error) => this.#lost(error),
    );
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    await this.#split(offset, buffer.length, this.#payload, (at, length) => {
      const part = buffer.subarray(at - offset, at - offset + length);
      return this.#ask({ type: Command.READ, flags: 0, offset: at, length, buffer: part });
    });
  }

  async write(bytes: Uint8Array, offset: number, options: DeviceWriteOptions = {}): Promise<void> {
    await this.#change(options, (flags) =>
      this.#split(offset, bytes.length, this.#payload, (at, length) => {
        const payload = bytes.subarray(at - offset, at - offset + length);
        return this.#ask({ type: Command.WRITE, flags, offset: at, length, payload });
      }),
    );
  }

  async zero(offset: number, length: number, options: DeviceZeroOptions = {}): Promise<void> {
    if (options.fast && !this.capabilities.fastZero)
      throw new VhdkitError('UNSUPPORTED', `${this.label} can't say whether it writes zeros fast`, {
        operation: 'write zeros',
      });
    const own = (options.keepStorage ? CommandFlag.NO_HOLE : 0) | (options.fast ? CommandFlag.FAST_ZERO : 0);
    await this.#change(options, (flags) =>
      this.capabilities.zero
        ? this.#split(offset, length, MAX_RANGE, (at, part) =>
            this.#ask({ type: Command.WRITE_ZEROES, flags: flags | own, offset: at, length: part }),
          )
        : this.#split(offset, length, Math.min(this.#payload, ZEROS.length), (at, part) =>
            this.#ask({
              type: Command.WRITE,
              flags,
              offset: at,
              length: part,
              payload: ZEROS.subarray(0, part),
            }),
          ),
    );
  }

  async trim(offset: number, length: number, options: DeviceWriteOptions = {}): Promise<void> {
    if (this.capabilities.writable && !this.capabilities.trim) return;
    await this.#change(options, (flags) =>
      this.#split(offset, length, MAX_RANGE, (at, part) =>
        this.#ask({ type: Command.TRIM, flags, offset: at, length: part }),
      ),
    );
  }

  async flush(): Promise<void> {
    if (!this.#offers(TransmissionFlag.SEND_FLUSH)) return;
    await this.#ask({ type: Command.FLUSH, flags: 0, offset: 0, length: 0 });
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    if (!this.capabilities.extents) return [{ offset, length, hole: false, zero: false }];
    const found = await this.blockStatus(BASE_ALLOCATION, offset, length);
    let at = offset;
    return found.map(({ length: bytes, flags }) => {
      const hole = (flags & AllocationFlag.HOLE) !== 0;
      const zero = (flags & AllocationFlag.ZERO) !== 0;
      at += bytes;
      return { offset: at - bytes, length: bytes, hole, zero };
    });
  }

  /** What a context that was asked for says: as `extents`, cut to the range. @throws UNSUPPORTED */
  async blockStatus(context: string, offset: number, length: number): Promise<ContextExtent[]> {
    const id = this.remote.contexts.get(context);
    if (id === undefined)
      throw new VhdkitError('UNSUPPORTED', `${this.label} does not tell '${context}'`, {
        operation: 'tell block status',
      });
    const range = Math.min(length, MAX_RANGE);
    const asked = await this.#ask({ type: Command.BLOCK_STATUS, flags: 0, offset, length: range });
    const cut: ContextExtent[] = [];
    let left = range;
    for (const extent of asked.extents.get(id) ?? []) {
      if (left === 0 || extent.length === 0) break;
      cut.push({ length: Math.min(extent.length, left), flags: extent.flags });
      left -= Math.min(extent.length, left);
    }
    if (cut.length > 0) return cut;
    throw this.#wire.broken(`no status of '${context}'`);
  }

  /** Flushes, takes leave, and waits for the server to close its end. */
  async close(): Promise<void> {
    if (this.#wire.failure) return;
    try {
      if (this.capabilities.writable) await this.flush();
    } finally {
      this.#send({ type: Command.DISC, flags: 0, offset: 0, length: 0 }, 0);
      await this.#wire.end();
    }
  }

  get #payload(): number {
    return roundDown(this.remote.payload, this.blockSize);
  }

  #offers(flag: number): boolean {
    return (this.remote.flags & flag) !== 0;
  }

  /** Refuses what can't be written to, and makes durable what is to be. */
  async #change(options: DeviceWriteOptions, work: (flags: number) => Promise<void>): Promise<void> {
    if (!this.capabilities.writable)
      throw new VhdkitError('READ_ONLY', `${this.label} is for reading only`, { operation: 'write' });
    const fua = options.durable === true && this.#offers(TransmissionFlag.SEND_FUA);
    await work(fua ? CommandFlag.FUA : 0);
    if (options.durable && !fua) await this.flush();
  }

  /** Asks part by part, at the same time; waits for all of them, also when one fails. */
  async #split(
    offset: number,
    length: number,
    most: number,
    ask: (offset: number, length: number) => Promise<unknown>,
  ): Promise<void> {
    if (length <= most) {
      if (length > 0) await ask(offset, length);
      return;
    }
    const parts: Promise<unknown>[] = [];
    for (let at = offset; at < offset + length; at += most)
      parts.push(ask(at, Math.min(most, offset + length - at)));
    const results = await Promise.allSettled(parts);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  async #ask(part: Part): Promise<Asked> {
    if (this.#asked.size >= MAX_IN_FLIGHT || this.#waiting.length > 0)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const lost = this.#wire.failure;
    if (lost) throw lost;
    return new Promise<Asked>((resolve, reject) => {
      const cookie = this.#freeCookie();
      const asked: Asked = {
        what: WHAT[part.type] ?? 'do it',
        offset: part.offset,
        length: part.length,
        buffer: part.buffer,
        covered: 0,
        failure: undefined,
        extents: new Map(),
        done: () => {
          this.#next();
          resolve(asked);
        },
        failed: (error) => {
          this.#next();
          reject(error);
        },
      };
      this.#asked.set(cookie, asked);
      this.#send(part, cookie);
    });
  }

  #freeCookie(): number {
    do this.#lastCookie = (this.#lastCookie + 1) >>> 0;
    while (this.#asked.has(this.#lastCookie));
    return this.#lastCookie;
  }

  #next(): void {
    this.#waiting.shift()?.();
  }

  #send({ type, flags, offset, length, payload }: Part, cookie: number): void {
    const header = requestBytes({ flags, type, cookieHigh: 0, cookieLow: cookie, offset, length });
    this.#wire.send(header, payload);
  }

  #lost(error: VhdkitError): void {
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    for (const one of asked) one.failed(error);
    for (const go of this.#waiting.splice(0)) go();
  }
}

/**
 * The client's end of a connection: a socket whose bytes are asked for one after the other during the handshake, and
 * handed on as they come afterwards.
 *
 * Invariant: it fails once, for ever, with the first reason; whoever waits, and whoever asks later, gets it.
 */
import net, { type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { fromSystemError, isVhdkitError, VhdkitError } from '../../base/errors.js';
import { assertSocketPath } from '../../io/private-socket.js';
import { InputQueue } from '../input-queue.js';
import type { NbdAddress } from '../server.js';
import { type ClientTls, encryptAsClient } from '../tls.js';
import { describeAddress } from './address.js';

export class Wire {
  readonly input = new InputQueue();
  readonly address: NbdAddress;
  #socket: Socket | TLSSocket;
  #failure: VhdkitError | undefined;
  #waiting: { bytes: number; go: () => void } | undefined;
  #onInput: (() => void) | undefined;
  #onFailure: ((error: VhdkitError) => void) | undefined;

  constructor(socket: Socket, address: NbdAddress) {
    this.address = address;
    this.#socket = socket;
    this.#listen(socket);
  }

  get failure(): VhdkitError | undefined {
    return this.#failure;
  }

  /** The next `count` bytes. */
  async read(count: number): Promise<Buffer> {
    if (this.input.length < count && !this.#failure) {
      await new Promise<void>((go) => {
        this.#waiting = { bytes: count, go };
      });
    }
    if (this.input.length >= count) return this.input.take(count);
    throw this.#failure ?? this.lost('it closed the connection');
  }

  /** Hands over: from now on `onInput` is called when bytes have come, and `onFailure` when none will any more. */
  handOver(onInput: () => void, onFailure: (error: VhdkitError) => void): void {
    this.#onInput = onInput;
    this.#onFailure = onFailure;
    if (this.#failure) onFailure(this.#failure);
    else if (this.input.length > 0) onInput();
  }

  /** The pieces leave in one write. They must not change before they are answered. */
  send(first: Uint8Array, second?: Uint8Array): void {
    if (second === undefined) {
      this.#socket.write(first);
      return;
    }
    this.#socket.cork();
    this.#socket.write(first);
    this.#socket.write(second);
    this.#socket.uncork();
  }

  async encrypt(options: ClientTls): Promise<void> {
    const socket = this.#socket;
    socket.pause();
    socket.removeAllListeners();
    const host = 'path' in this.address ? 'localhost' : this.address.host;
    try {
      this.#socket = await encryptAsClient(socket, options, host);
    } catch (error) {
      socket.destroy();
      this.#failure = isVhdkitError(error) ? (error as VhdkitError) : this.lost(String(error));
      throw this.#failure;
    }
    this.#listen(this.#socket);
  }

  /** Says no more; resolves when the server has closed its end, too. */
  async end(): Promise<void> {
    if (this.#socket.destroyed) return;
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    this.#socket.end();
    this.#socket.resume();
    await closed;
  }

  destroy(reason: VhdkitError): void {
    this.#fail(reason);
    this.#socket.destroy();
  }

  lost(why: string, cause?: unknown): VhdkitError {
    return new VhdkitError(
      'IO_FAILED',
      `The NBD server at ${describeAddress(this.address)} is lost: ${why}`,
      {
        operation: 'talk to NBD server',
        cause,
        hint: 'Check that the server runs and can be reached, then begin anew.',
      },
    );
  }

  /** What came is not what the protocol allows. */
  broken(what: string): VhdkitError {
    return new VhdkitError(
      'IO_FAILED',
      `${describeAddress(this.address)} does not speak NBD as expected: ${what}`,
      {
        operation: 'talk to NBD server',
        hint: 'Check the address; other programs answer differently.',
      },
    );
  }

  #listen(socket: Socket | TLSSocket): void {
    socket.on('data', (chunk: Buffer) => {
      this.input.push(chunk);
      if (this.#onInput) this.#onInput();
      else if (this.#waiting && this.input.length >= this.#waiting.bytes) this.#wake();
    });
    socket.on('error', (error) => this.#fail(this.lost(error.message, error)));
    socket.on('close', () => this.#fail(this.lost('it closed the connection')));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.go();
  }

  #fail(reason: VhdkitError): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#wake();
    this.#onFailure?.(reason);
  }
}

/**
 * @throws NOT_FOUND (no such socket), PERMISSION_DENIED, INVALID_ARGUMENT (a path too long for a socket),
 *   IO_FAILED (nobody listens)
 */
export async function openWire(address: NbdAddress): Promise<Wire> {
  if ('path' in address) assertSocketPath(address.path);
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...address });
    const fail = (error: Error): void =>
      reject(fromSystemError(error, `connect to NBD server at ${describeAddress(address)}`, {}));
    socket.once('error', fail);
    socket.once('connect', () => {
      socket.removeListener('error', fail);
      if (!('path' in address)) socket.setNoDelay(true).setKeepAlive(true, 30_000);
      resolve(new Wire(socket, address));
    });
  });
}

/**
 * The NBD server: listens, lets clients in, and ends them.
 *
 * Invariants: at most `limits.connections` clients at the same time; one that has not finished its handshake makes
 * room for a newcomer, one that has is never displaced. All share one budget of memory. The server opens and closes no devices:
 * whoever takes an export out of its table calls `drop`, waits, and closes the device.
 *
 * Not here: files, locks, signals, removing the socket of a server that was killed (operations).
 */
import net from 'node:net';
import { MiB } from '../base/bytes.js';
import { type ErrorCode, fromSystemError, VhdkitError } from '../base/errors.js';
import type { Timer } from '../base/timer.js';
import { assertSocketPath } from '../io/private-socket.js';
import { Connection } from './connection.js';
import type { ConnectionInfo, NbdListener } from './events.js';
import type { ExportTable, NbdExport } from './export-table.js';
import { DEFAULT_LIMITS, type NbdLimits } from './limits.js';
import { MemoryBudget } from './memory-account.js';
import { RecycledBuffers } from './recycled-buffers.js';
import { checkServerTls, type ServerTls } from './tls.js';

/** A place to listen at or to connect to. */
export type NbdAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** How often connections are asked whether they hold something up, in milliseconds. */
const WATCH_PERIOD = 1000;
/** Unused buffers that are kept for later, in bytes. */
const KEPT_BUFFERS = 32 * MiB;

export interface NbdServerOptions {
  readonly exports: ExportTable;
  readonly timer: Timer;
  readonly tls?: ServerTls;
  readonly limits?: Partial<NbdLimits>;
  readonly listener?: NbdListener;
}

export class NbdServer {
  readonly #exports: ExportTable;
  readonly #timer: Timer;
  readonly #tls: ServerTls | undefined;
  readonly #limits: NbdLimits;
  readonly #listener: NbdListener;
  readonly #budget: MemoryBudget;
  readonly #buffers = new RecycledBuffers(KEPT_BUFFERS);
  readonly #listening = new Set<net.Server>();
  /** In the order in which they came. */
  readonly #connections = new Set<Connection>();
  readonly #stopped = new AbortController();
  #isWatching = false;
  #lastId = 0;

  /** @throws INVALID_ARGUMENT when the certificate can't be used */
  constructor(options: NbdServerOptions) {
    if (options.tls) checkServerTls(options.tls);
    this.#exports = options.exports;
    this.#timer = options.timer;
    this.#tls = options.tls;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#listener = options.listener ?? (() => undefined);
    this.#budget = new MemoryBudget(this.#limits.sharedBytes);
  }

  /**
   * Begins to listen; may be called for several addresses. Port 0 means a free one; the answer tells which.
   * @throws IN_USE (somebody listens there), PERMISSION_DENIED, NOT_FOUND (the folder, the host), INVALID_ARGUMENT
   *   (a path too long for a socket), IO_FAILED
   */
  async listen(address: NbdAddress): Promise<NbdAddress> {
    if ('path' in address) assertSocketPath(address.path);
    const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
    return new Promise((resolve, reject) => {
      server.once('error', (error) => reject(listenError(error, address)));
      server.listen({ ...address }, () => {
        // Being out of descriptors for a moment is no reason to end.
        server.removeAllListeners('error').on('error', () => undefined);
        this.#listening.add(server);
        const bound = server.address();
        if (bound === null || typeof bound === 'string') resolve(address);
        else resolve({ host: bound.address, port: bound.port });
      });
    });
  }

  connections(): ConnectionInfo[] {
    return [...this.#connections].map((connection) => connection.info());
  }

  /** Bytes of payload beyond the reserves that are held now. */
  get sharedBytes(): number {
    return this.#budget.used;
  }

  /** Ends the connections of an export that is out of the table; resolves when nothing of them uses its device. */
  async drop(exported: NbdExport, options: { grace?: number } = {}): Promise<void> {
    const connections = [...this.#connections].filter((connection) => connection.exported === exported);
    await this.#end(connections, 'dropped', options.grace ?? 0);
  }

  /**
   * Stops listening, lets what is under way be answered for at most `grace` milliseconds, and ends all
   * connections. Resolves when none is left and no device is used any more. Does not flush devices.
   */
  async close(options: { grace?: number } = {}): Promise<void> {
    const closing = [...this.#listening].map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    this.#listening.clear();
    await this.#end([...this.#connections], 'shutdown', options.grace ?? 0);
    this.#stopped.abort();
    await Promise.all(closing);
  }

  async #end(
    connections: readonly Connection[],
    reason: 'dropped' | 'shutdown',
    grace: number,
  ): Promise<void> {
    for (const connection of connections) connection.finish(reason);
    const over = Promise.all(connections.map((connection) => connection.whenOver));
    const isOver = new AbortController();
    void over.then(() => isOver.abort());
    await this.#timer.sleep(grace, isOver.signal);
    for (const connection of connections) connection.destroy(reason);
    await over;
  }

  #accept(socket: net.Socket): void {
    if (this.#connections.size >= this.#limits.connections && !this.#makeRoom()) {
      this.#listener({ type: 'refused', peer: socket.remoteAddress ?? '' });
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    this.#lastId += 1;
    this.#listener({ type: 'connected', id: this.#lastId, peer: socket.remoteAddress ?? '' });
    const connection = new Connection({
      id: this.#lastId,
      socket,
      table: this.#exports,
      tls: this.#tls,
      limits: this.#limits,
      budget: this.#budget,
      buffers: this.#buffers,
      listener: this.#listener,
      now: () => this.#timer.now(),
    });
    this.#connections.add(connection);
    void connection.whenOver.then(() => this.#connections.delete(connection));
    if (!this.#isWatching) void this.#watch();
  }

  /** Ends the oldest connection that has not finished its handshake. */
  #makeRoom(): boolean {
    for (const connection of this.#connections) {
      if (!connection.isShakingHands) continue;
      this.#connections.delete(connection);
      connection.destroy('displaced');
      return true;
    }
    return false;
  }

  /** Looks after time limits as long as there are connections. */
  async #watch(): Promise<void> {
    this.#isWatching = true;
    while (this.#connections.size > 0 && !this.#stopped.signal.aborted) {
      await this.#timer.sleep(WATCH_PERIOD, this.#stopped.signal);
      const now = this.#timer.now();
      for (const connection of this.#connections) connection.checkTime(now, this.#budget.isShort);
    }
    this.#isWatching = false;
  }
}

/** What keeps a server from listening, by the system's name for it. */
const OBSTACLES: Readonly<Record<string, { code: ErrorCode; what: string; hint: string }>> = {
  EADDRINUSE: {
    code: 'IN_USE',
    what: 'somebody listens there already',
    hint: 'Choose another address, or stop what listens there.',
  },
  EADDRNOTAVAIL: {
    code: 'NOT_FOUND',
    what: 'this machine does not have that address',
    hint: 'Choose an address of this machine; 0.0.0.0 and [::] mean all of them.',
  },
  ENOTFOUND: {
    code: 'NOT_FOUND',
    what: 'there is no host of that name',
    hint: 'Choose an address of this machine; 0.0.0.0 and [::] mean all of them.',
  },
  // What libuv makes of a folder that is not there, too.
  EACCES: {
    code: 'PERMISSION_DENIED',
    what: 'that is not permitted, or the folder is not there',
    hint: 'Check the folder of a socket and its permissions; ports below 1024 are for privileged users.',
  },
};

function listenError(error: Error & { code?: string }, address: NbdAddress): Error {
  const where = 'path' in address ? address.path : `${address.host}:${address.port}`;
  const context = 'path' in address ? { path: address.path } : {};
  const obstacle = OBSTACLES[error.code ?? ''];
  if (!obstacle) return fromSystemError(error, `listen at ${where}`, context);
  const { code, what, hint } = obstacle;
  return new VhdkitError(code, `Cannot listen at ${where}: ${what} (${error.code})`, {
    operation: 'listen',
    context,
    cause: error,
    hint,
  });
}

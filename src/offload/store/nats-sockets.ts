/**
 * The sockets that a client library opens, so that none of them outlives it.
 *
 * A client that gives up waiting for a server which took the connection and says nothing (stopped, overloaded, or no
 * server of this kind at all) leaves its socket open, and an open socket keeps a process from ending.
 *
 * Invariant: only sockets that were opened by what `run` began are known here, however long after it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';

/** Of a socket, what is needed here. */
interface Opened {
  readonly destroyed: boolean;
  destroy(): unknown;
}

const CHANNEL = 'net.client.socket';

export class ClientSockets {
  readonly #scope = new AsyncLocalStorage<ClientSockets>();
  readonly #onOpened = (message: unknown): void => {
    if (this.#scope.getStore() === this) this.#add((message as { socket: Opened }).socket);
  };
  #open: Opened[] = [];

  /** Does work of which the sockets are to be known, those of what it leaves running as well. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    subscribe(CHANNEL, this.#onOpened);
    return this.#scope.run(this, work);
  }

  /** Closes what is still open; nothing is noticed from now on. */
  close(): void {
    unsubscribe(CHANNEL, this.#onOpened);
    for (const socket of this.#open.splice(0)) socket.destroy();
  }

  /** A client that goes on trying opens many, one after another. */
  #add(socket: Opened): void {
    this.#open = this.#open.filter(({ destroyed }) => !destroyed);
    this.#open.push(socket);
  }
}

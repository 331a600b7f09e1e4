/**
 * Reading a pipe into one buffer that is used again and again.
 *
 * Node's own stream of stdin makes a new buffer for each 64 KiB, which for disks of many GiB costs several
 * times the time of the reading and tens of MiB of memory until they are collected.
 *
 * Invariant: the next bytes are read when the last ones are done with, so a fast writer waits. Not for
 * files and terminals, which are no pipes.
 */
import { Socket } from 'node:net';

const BUFFER = 1024 * 1024;

/** Lets one side wait for what the other tells. */
class Signal {
  #wake: () => void = () => {};
  #told = false;

  tell(): void {
    this.#told = true;
    this.#wake();
  }

  async wait(): Promise<void> {
    if (!this.#told) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#told = false;
  }
}

/**
 * The bytes of a pipe or socket, in order. A chunk is valid until the next step. The descriptor is closed at
 * the end. Ends early, without an error, when the signal is aborted.
 * @throws system errors; ERR_INVALID_FD_TYPE when the descriptor is neither
 */
export async function* readPipe(fd: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const news = new Signal();
  const buffer = new Uint8Array(BUFFER);
  let arrived = 0;
  let ended = false;
  let failure: Error | undefined;
  const onread = {
    buffer,
    callback: (count: number): boolean => {
      arrived = count;
      news.tell();
      return false;
    },
  };
  // A constant of its own, because the types leave out `onread`, which is documented.
  const options = { fd, readable: true, writable: false, onread, signal };
  const socket = new Socket(options);
  const end = (): void => {
    ended = true;
    news.tell();
  };
  socket.on('end', end);
  socket.on('close', end);
  socket.on('error', (error) => {
    failure = error;
    end();
  });
  try {
    for (;;) {
      socket.resume();
      await news.wait();
      if (arrived > 0) {
        const count = arrived;
        arrived = 0;
        yield buffer.subarray(0, count);
      }
      if (failure && !signal.aborted) throw failure;
      if (ended) return;
    }
  } finally {
    socket.destroy();
  }
}

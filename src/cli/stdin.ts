/**
 * stdin as a stream of bytes, whatever it is: a pipe, a file, a device.
 *
 * Invariant: Node's own stream of stdin is never made; it would take bytes out of the pipe.
 */
import { fromSystemError, systemCode, throwIfAborted } from '../base/errors.js';

export const STDIN = 0;

/** stdin from its start. A chunk is valid until the next step. @throws IO_FAILED, CANCELLED */
export async function* stdinChunks(signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const { readPipe, readDescriptor } = await import('../operations/stdin.js');
  try {
    try {
      yield* readPipe(STDIN, signal);
    } catch (error) {
      if (systemCode(error) !== 'ERR_INVALID_FD_TYPE') throw error;
      yield* readDescriptor(STDIN, signal);
    }
  } catch (error) {
    throwIfAborted(signal, 'read stdin');
    throw fromSystemError(error, 'read stdin', {});
  }
  throwIfAborted(signal, 'read stdin');
}

/** Bytes that stdin still has, where that is known beforehand: it is a file. */
export async function stdinLength(): Promise<number | undefined> {
  const { bytesLeft } = await import('../operations/stdin.js');
  return bytesLeft(STDIN);
}

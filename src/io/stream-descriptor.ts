/**
 * Reading a descriptor that is a file or a device, front to back from where it stands.
 *
 * Node's own stream of stdin ends at once, without an error, when stdin is a block device, and makes a new
 * buffer for each 64 KiB.
 *
 * Not for pipes and terminals: waiting for those would hold a thread (stream-stdin.ts).
 */
import { fstatSync, read, readFileSync } from 'node:fs';

const BUFFER = 1024 * 1024;

/** Bytes from the descriptor's position to the end of its file; undefined where that can't be known. */
export function bytesLeft(fd: number): number | undefined {
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) return undefined;
    const position = /^pos:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
    return position === undefined ? undefined : Math.max(0, stat.size - Number(position));
  } catch {
    return undefined;
  }
}

function readNext(fd: number, buffer: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, buffer, 0, buffer.length, null, (error, count) => (error ? reject(error) : resolve(count)));
  });
}

/**
 * The bytes of a file or device, in order. A chunk is valid until the next step. Ends early, without an
 * error, when the signal is aborted.
 * @throws system errors
 */
export async function* readDescriptor(fd: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(BUFFER);
  while (!signal.aborted) {
    const count = await readNext(fd, buffer);
    if (count === 0) return;
    yield buffer.subarray(0, count);
  }
}

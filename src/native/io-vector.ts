/**
 * struct iovec for calls that run on the calling thread: one vector that is filled anew for each call.
 *
 * Where a buffer is, is asked once for the memory it lies in, not for each view of it: servers cut a new view for
 * every request, and asking takes longer than the rest of the call.
 */
import type { Library } from './library.js';

/** The vector that says where the buffer's bytes are; good until the next call. */
export type IoVector = (buffer: Uint8Array) => Uint8Array;

export function ioVector(library: Library): IoVector {
  /** Memory stays where it is as long as it lives. Addresses of user space have at most 47 bits. */
  const addresses = new WeakMap<ArrayBufferLike, number>();
  const vector = new Uint8Array(16);
  const view = new DataView(vector.buffer);
  return (buffer) => {
    let base = addresses.get(buffer.buffer);
    if (base === undefined) {
      base = Number(library.address(new Uint8Array(buffer.buffer)));
      addresses.set(buffer.buffer, base);
    }
    const address = base + buffer.byteOffset;
    view.setUint32(0, address >>> 0, true);
    view.setUint32(4, address / 2 ** 32, true);
    view.setUint32(8, buffer.length >>> 0, true);
    view.setUint32(12, buffer.length / 2 ** 32, true);
    return vector;
  };
}

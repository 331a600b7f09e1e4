/**
 * Adding up what several transfers moved.
 */
import type { BytesMoved } from '../offload/transfer-types.js';

export const NOTHING_MOVED: Readonly<BytesMoved> = { shared: 0, kernelCopied: 0, buffered: 0, zeroed: 0 };

export function add(a: BytesMoved, b: BytesMoved): BytesMoved {
  return {
    shared: a.shared + b.shared,
    kernelCopied: a.kernelCopied + b.kernelCopied,
    buffered: a.buffered + b.buffered,
    zeroed: a.zeroed + b.zeroed,
  };
}

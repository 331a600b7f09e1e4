/**
 * Reading a disk through a buffer: the one adapter from `locate` to bytes.
 *
 * Zero and absent ranges read as zeros; whoever must not mistake a missing parent for zeros uses a chain.
 */
import { VhdkitError } from '../base/errors.js';
import type { Locator } from '../block/extent.js';

/**
 * Fills the buffer with the disk's content from `offset`.
 * @throws OUT_OF_RANGE, IMAGE_CORRUPT (payload outside the file), IO_FAILED
 */
export async function readDisk(disk: Locator, buffer: Uint8Array, offset: number): Promise<void> {
  for (const extent of await disk.locate(offset, buffer.length)) {
    const part = buffer.subarray(extent.offset - offset, extent.offset - offset + extent.length);
    if (extent.state !== 'data') {
      part.fill(0);
      continue;
    }
    const count = await extent.file.read(part, extent.fileOffset);
    // A block whose end was cut off (the last one of some writers) reads as zeros there; the format's
    // own checks decide beforehand whether a cut is acceptable.
    part.fill(0, count);
  }
}

/** @throws OUT_OF_RANGE when the range is not inside the disk */
export function assertInsideDisk(virtualSize: number, offset: number, length: number, path: string): void {
  const fine =
    Number.isSafeInteger(offset) &&
    Number.isSafeInteger(length) &&
    offset >= 0 &&
    length >= 0 &&
    offset + length <= virtualSize;
  if (fine) return;
  throw new VhdkitError('OUT_OF_RANGE', `${path}: the range ends outside the disk of ${virtualSize} bytes`, {
    operation: 'locate range',
    context: { path, offset, length, virtualSize },
    hint: 'Ask for a range inside the disk; `vhdkit info` shows its size.',
  });
}

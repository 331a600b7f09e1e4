/**
 * What is sound but could be better: payload that does not begin where storage can share it, blocks far from their
 * neighbours, disks of a chain that differ in size.
 *
 * Invariant: notes only, about images without errors. Nothing here says that contents are wrong.
 */
import type { DiskImage } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';

/** Extents are shared in units of file system blocks: 4 KiB in practice. */
const SHARED_UNIT = 4096;
/** Blocks out of order from which defragmenting is worth a word, and how many blocks there must be. */
const FRAGMENTED = 0.5;
const MANY_BLOCKS = 64;

export interface Advice extends Finding {
  hint: string;
}

function note(code: string, message: string, hint: string): Advice {
  return { code, severity: 'note', message, repairable: false, hint };
}

/** Advice about where blocks lie. @throws IO_FAILED */
export async function layoutAdvice(image: DiskImage): Promise<Advice[]> {
  if (image.blockSize === undefined) return [];
  const { payloadAlignment, allocatedBlocks, extents } = await image.layout();
  const advice: Advice[] = [];
  if (payloadAlignment !== undefined && payloadAlignment < SHARED_UNIT) {
    const message = `blocks begin at multiples of ${payloadAlignment} bytes: no storage can share them, and guests with 4 KiB sectors write slowly`;
    advice.push(note('PAYLOAD_MISALIGNED', message, 'Run `vhdkit defrag --align 4K`.'));
  }
  if (allocatedBlocks >= MANY_BLOCKS && extents > allocatedBlocks * FRAGMENTED) {
    const message = `${allocatedBlocks} blocks lie in ${extents} pieces`;
    advice.push(note('BLOCKS_FRAGMENTED', message, 'Run `vhdkit defrag`.'));
  }
  return advice;
}

/** A child's disk against its parent's. */
export function sizeAdvice(child: DiskImage, parent: DiskImage): Advice[] {
  const { virtualSize } = child;
  if (virtualSize === parent.virtualSize) return [];
  const what =
    virtualSize > parent.virtualSize
      ? 'what lies behind its end reads as zeros'
      : 'the rest of it is not seen';
  const message = `the disk has ${virtualSize} bytes, that of its parent ${parent.virtualSize}: ${what}`;
  return [note('CHAIN_SIZE_DIFFERS', message, 'Nothing has to be done; merging takes care of it.')];
}

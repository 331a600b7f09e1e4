/** What a dry run of `convert` foresees, as text. */
import { formatSize } from '../../base/bytes.js';
import type { ConversionPlan, ConvertResult } from '../../operations/convert.js';
import { type Field, sizeText } from './text.js';

function some(bytes: number, before: string): string | undefined {
  return bytes > 0 ? `${before}${sizeText(bytes)}` : undefined;
}

function blocksText({ blocks, blockSize, totalBlocks }: ConversionPlan, atMost: string): string | undefined {
  return blockSize === null
    ? undefined
    : `${atMost}${blocks} of ${totalBlocks}, ${formatSize(blockSize)} each`;
}

/** Zeros that would be found only by reading come off what is read and written. */
export function planFields({ bytes, fileSize, plan }: ConvertResult): Field[] {
  const atMost = plan?.atMost ? 'at most ' : '';
  return [
    ['file size', `${atMost}${sizeText(fileSize)}`],
    ['blocks', plan && blocksText(plan, atMost)],
    ['to share', some(bytes.shared, '')],
    ['to copy in kernel', some(bytes.kernelCopied, atMost)],
    ['to read and write', some(bytes.buffered, atMost)],
    ['zeros', some(bytes.zeroed, plan?.atMost ? 'at least ' : '')],
  ];
}

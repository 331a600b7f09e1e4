/** `create` as text. */
import type { CreateResult } from '../../operations/create.js';
import { printable, type Style } from './style.js';
import { type Field, fieldLines, sizeText } from './text.js';

export function renderCreate(result: CreateResult, style: Style): string[] {
  const fields: Field[] = [
    ['format', `${result.format}, ${result.type}`],
    ['virtual size', sizeText(result.virtualSize)],
    ['file size', sizeText(result.fileSize)],
    ['block size', result.blockSize === null ? undefined : sizeText(result.blockSize)],
    ['id', result.id ?? undefined],
    ['parent', result.parent && printable(result.parent.path)],
    ['parent id', result.parent?.id],
    ['images in the chain', result.depth?.toString()],
  ];
  return [`Created ${style.bold(printable(result.path))}`, ...fieldLines(fields, style)];
}

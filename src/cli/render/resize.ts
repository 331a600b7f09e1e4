/** `resize` as text: sizes before and after, what happened to the table, what was cut off. */
import { formatSize } from '../../base/bytes.js';
import type { ResizeResult } from '../../operations/resize.js';
import { printable, type Style } from './style.js';
import { type Field, fieldLines, sizeText } from './text.js';

const BACKUP = {
  moved: 'backup copy moved to the end of the disk',
  left: 'backup copy left where it was',
  inPlace: 'backup copy at the end of the disk',
} as const;

function tableText({ table, gptBackup, dryRun }: ResizeResult): string {
  if (table === 'none') return 'none';
  if (gptBackup === null) return table.toUpperCase();
  const would =
    dryRun && gptBackup === 'moved' ? 'backup copy would move to the end of the disk' : BACKUP[gptBackup];
  return `GPT, ${would}`;
}

export function renderResize(result: ResizeResult, style: Style): string[] {
  const { dryRun, format, type, oldSize, virtualSize, lost } = result;
  const same = oldSize === virtualSize;
  const verb = virtualSize > oldSize ? 'grow' : 'shrink';
  const past = { grow: 'Grown', shrink: 'Shrunk' }[verb];
  const name = `${style.bold(printable(result.path))} (${format}, ${type})`;
  const fields: Field[] = [
    ['virtual size', same ? sizeText(virtualSize) : `${sizeText(virtualSize)}, was ${formatSize(oldSize)}`],
    ['file size', dryRun ? undefined : sizeText(result.fileSize)],
    ['partition table', tableText(result)],
    ...lost.map(({ what, offset, length }): Field => {
      return [
        dryRun ? 'would cut off' : 'cut off',
        `${sizeText(length)} of ${printable(what)}, from byte ${offset} on`,
      ];
    }),
  ];
  const head = same ? 'Same size' : dryRun ? `Would ${verb}` : past;
  return [`${head}: ${name}`, ...fieldLines(fields, style)];
}

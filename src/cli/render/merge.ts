/** `merge` as text: what went where, how its bytes got there, and what became of the images. */
import type { MergeResult } from '../../operations/merge.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, rateText, sizeText } from './text.js';

function some(bytes: number): string | undefined {
  return bytes > 0 ? sizeText(bytes) : undefined;
}

function pathsText(paths: readonly string[]): string | undefined {
  return paths.length > 0 ? paths.map(printable).join(', ') : undefined;
}

function bytesFields({ bytes, dryRun }: MergeResult): Field[] {
  const to = dryRun ? 'to ' : '';
  return [
    [dryRun ? 'to share' : 'shared', some(bytes.shared)],
    [dryRun ? 'to copy in kernel' : 'copied in kernel', some(bytes.kernelCopied)],
    [dryRun ? 'to read and write' : 'read and written', some(bytes.buffered)],
    [`${to}zero`, some(bytes.zeroed)],
  ];
}

export function renderMerge(result: MergeResult, style: Style): string[] {
  const { bytes, dryRun, created, merged, resized } = result;
  const child = style.bold(printable(result.child));
  const target = style.bold(printable(result.target));
  const others = merged.length - 1;
  const chain = others > 0 ? ` and ${others} image${others === 1 ? '' : 's'} beneath it` : '';
  const rate = rateText(bytes.shared + bytes.kernelCopied + bytes.buffered, result.elapsedMs);
  const time = `${durationText(result.elapsedMs)}${rate ? `, ${rate}` : ''}`;
  const fields: Field[] = [
    ['virtual size', sizeText(result.virtualSize)],
    ['resized', resized && `from ${sizeText(resized.from)}`],
    ['file size', dryRun && !created ? undefined : sizeText(result.fileSize)],
    ...bytesFields(result),
    [dryRun ? 'to link to it' : 'linked to it', pathsText(result.relinked)],
    [dryRun ? 'to delete' : 'deleted', pathsText(result.deleted)],
    ['not valid alone', pathsText(result.stale)],
    ['time', dryRun ? undefined : time],
  ];
  const verb = dryRun ? 'Would merge' : 'Merged';
  const into = created ? `into the new image ${target}` : `into ${target}`;
  return [
    `${verb} ${child}${chain} ${into} (${result.format}, ${result.type})`,
    ...fieldLines(fields, style),
  ];
}

/** `defrag` as text: fragmentation before and after, and what was moved. */
import type { Arrangement, DefragResult } from '../../operations/defrag.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, sizeText } from './text.js';

function some(bytes: number): string | undefined {
  return bytes > 0 ? sizeText(bytes) : undefined;
}

function scatter({ percent, extents }: Arrangement['fragmentation']): string {
  return `${percent} % (${extents} ${extents === 1 ? 'run' : 'runs'})`;
}

function change(before: string, after: string): string {
  return before === after ? before : `${before} → ${after}`;
}

function alignment({ payloadAlignment }: Arrangement): string {
  return payloadAlignment === null ? 'no payload' : sizeText(payloadAlignment);
}

function hostText({ before, after }: DefragResult): string | undefined {
  if (before.hostExtents === undefined) return undefined;
  return change(String(before.hostExtents), String(after.hostExtents ?? before.hostExtents));
}

function hostLayoutText({ hostLayout }: DefragResult): string | undefined {
  if (!hostLayout) return undefined;
  const { replaced, reason, bytes } = hostLayout;
  return replaced ? `yes, ${sizeText(bytes.buffered)} written` : `no: ${printable(reason ?? '')}`;
}

export function renderDefrag(result: DefragResult, style: Style): string[] {
  const { before, after, moved, bytes, dryRun } = result;
  const fields: Field[] = [
    ['fragmentation', change(scatter(before.fragmentation), scatter(after.fragmentation))],
    ['payload alignment', change(alignment(before), alignment(after))],
    [dryRun ? 'to move' : 'moved', `${moved.units} blocks, ${sizeText(moved.bytes)}`],
    ['shared', some(bytes.shared)],
    ['copied in kernel', some(bytes.kernelCopied)],
    ['read and written', some(bytes.buffered)],
    ['file size', change(sizeText(before.fileSize), sizeText(after.fileSize))],
    ['extents on the host', hostText(result)],
    ['laid out anew', hostLayoutText(result)],
    ['time', dryRun ? undefined : durationText(result.elapsedMs)],
  ];
  const what = `${style.bold(printable(result.path))} (${result.format}, ${result.type})`;
  return [`${dryRun ? 'Would defragment' : 'Defragmented'} ${what}`, ...fieldLines(fields, style)];
}

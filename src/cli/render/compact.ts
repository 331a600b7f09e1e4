/** `compact` as text: what was given back and why, and what was kept. */
import type { VolumeReport } from '../../guestfs/free-space.js';
import type { CompactResult } from '../../operations/compact.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, sizeText } from './text.js';

function some(bytes: number): string | undefined {
  return bytes > 0 ? sizeText(bytes) : undefined;
}

function change(before: number, after: number): string {
  return before === after ? sizeText(before) : `${sizeText(before)} → ${sizeText(after)}`;
}

function volumeLine({ volume, kind, verdict, reason, freeBytes }: VolumeReport, style: Style): string {
  const name = `${volume.name}: ${printable(kind)}`;
  if (verdict === 'read') return `  ${name}, ${sizeText(freeBytes)} free`;
  return `  ${name}, ${style.yellow('kept')}: ${printable(reason ?? '')}`;
}

export function renderCompact(result: CompactResult, style: Style): string[] {
  const { before, after, reclaimed, moved, bytes, dryRun, volumes, target } = result;
  const atMost = dryRun ? 'about ' : '';
  const fields: Field[] = [
    ['file size', `${atMost}${change(before.fileSize, after.fileSize)}`],
    ['on the host', `${atMost}${change(before.allocatedBytes, after.allocatedBytes)}`],
    ['zeros', some(reclaimed.zeros)],
    ['free space', some(reclaimed.freeSpace)],
    ['inside blocks', some(reclaimed.insideBlocks)],
    ['slack', some(reclaimed.slack)],
    [
      dryRun ? 'to move' : 'moved',
      moved.units > 0 ? `${moved.units} blocks, ${sizeText(moved.bytes)}` : undefined,
    ],
    ['shared', some(bytes.shared)],
    ['copied in kernel', some(bytes.kernelCopied)],
    ['read and written', some(bytes.buffered)],
    ['time', dryRun ? undefined : durationText(result.elapsedMs)],
  ];
  const what = `${style.bold(printable(result.path))} (${result.format}, ${result.type})`;
  const into = target === undefined ? '' : ` into ${style.bold(printable(target))}`;
  return [
    `${dryRun ? 'Would compact' : 'Compacted'} ${what}${into}`,
    ...fieldLines(fields, style),
    ...(volumes?.map((report) => volumeLine(report, style)) ?? []),
  ];
}

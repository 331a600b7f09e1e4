/** `write` as text. */
import type { WriteResult } from '../../operations/write.js';
import { printable, type Style } from './style.js';
import { durationText, rateText, sizeText } from './text.js';

export function renderWrite(result: WriteResult, style: Style): string[] {
  const { dryRun, length, offset, elapsedMs } = result;
  const what = length === null ? 'all of stdin' : sizeText(length);
  const where = `${style.bold(printable(result.path))} (${result.format}, ${result.type}) at offset ${offset}`;
  if (dryRun) return [`Would write ${what} to ${where}`];
  const rate = rateText(length ?? 0, elapsedMs);
  return [`Wrote ${what} to ${where} in ${durationText(elapsedMs)}${rate ? `, ${rate}` : ''}`];
}

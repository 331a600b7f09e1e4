/** `compare` as text. */
import type { CompareResult } from '../../operations/compare.js';
import { printable, type Style } from './style.js';

export function renderCompare(result: CompareResult, style: Style): string[] {
  const { same, firstDifference } = result;
  if (same) return [style.green('The disks are the same.')];
  const reason = firstDifference ? `: ${printable(firstDifference.message)}` : '';
  return [`${style.red('The disks differ')}${reason}.`];
}

/** `rebase` as text: the link, and what the child had to take over. */
import type { RebaseResult } from '../../operations/rebase.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, sizeText } from './text.js';

function headline(result: RebaseResult, style: Style): string {
  const { dryRun, relink, linkChanged } = result;
  const child = style.bold(printable(result.path));
  const parent = style.bold(printable(result.parent));
  if (relink && !linkChanged) return `The link of ${child} to ${parent} is right, nothing to do`;
  const verb = relink ? (dryRun ? 'Would relink' : 'Relinked') : dryRun ? 'Would rebase' : 'Rebased';
  return `${verb} ${child} to ${parent}`;
}

export function renderRebase(result: RebaseResult, style: Style): string[] {
  const { bytes, dryRun } = result;
  const some = (count: number): string | undefined => (count > 0 ? sizeText(count) : undefined);
  const fields: Field[] = [['was', printable(result.previousParent) || undefined]];
  if (!result.relink) {
    fields.push(
      [dryRun ? 'to take over' : 'taken over', sizeText(result.pulled)],
      ['shared', some(bytes.shared)],
      ['copied in kernel', some(bytes.kernelCopied)],
      ['read and written', some(bytes.buffered)],
      ['zeros', some(bytes.zeroed)],
      ['compared', sizeText(result.compared)],
      ['time', dryRun ? undefined : durationText(result.elapsedMs)],
    );
  }
  return [headline(result, style), ...fieldLines(fields, style)];
}

/** `convert --in-place` as text: what became of the image, and of its storage. */
import { formatSize } from '../../base/bytes.js';
import type { InPlaceResult } from '../../operations/convert-in-place.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, sizeText } from './text.js';

function change(before: number, after: number): string {
  return before === after ? sizeText(after) : `${sizeText(after)}, was ${formatSize(before)}`;
}

export function renderConvertInPlace(result: InPlaceResult, style: Style): string[] {
  const { dryRun, before, after, bytes, zerosGivenBack, from, type, format } = result;
  const name = style.bold(printable(result.path));
  const shared = result.means === 'sharedExtents';
  const fields: Field[] = [
    ['virtual size', sizeText(result.virtualSize)],
    ['file size', dryRun ? undefined : change(before.fileSize, after.fileSize)],
    ['storage in use', dryRun ? undefined : change(before.allocatedBytes, after.allocatedBytes)],
    [
      dryRun ? 'zeros to give back' : 'zeros given back',
      type === 'dynamic' ? sizeText(zerosGivenBack) : undefined,
    ],
    ['shared', shared ? sizeText(bytes.shared) : undefined],
    ['edges copied', shared && bytes.buffered > 0 ? sizeText(bytes.buffered) : undefined],
    ['time', dryRun ? undefined : durationText(result.elapsedMs)],
  ];
  const verb = dryRun ? 'Would convert' : 'Converted';
  const was = format === 'raw' ? 'raw' : `${format}, ${from}`;
  return [`${verb} ${name} (${was}) in place to ${type}`, ...fieldLines(fields, style)];
}

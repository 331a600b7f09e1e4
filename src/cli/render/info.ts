/** `info` as text. */
import { basename } from 'node:path';
import type { ImageInfo, InfoResult, ParentInfo } from '../../operations/info.js';
import { printable, type Style } from './style.js';
import { type Field, fieldLines, findingLines, sizeText } from './text.js';

const FORMATS = { raw: 'raw', vhd: 'VHD', vhdx: 'VHDX' } as const;

function statusText(parent: ParentInfo, style: Style): string {
  if (parent.status === 'matches') return style.green('matches');
  const texts = {
    missing: 'missing: no file under any of the names the image gives',
    mismatch: 'mismatch: it is not the image this one was made from',
    unreadable: 'unreadable',
  };
  const reason = parent.reason ? ` (${printable(parent.reason)})` : '';
  return `${style.red(texts[parent.status])}${reason}`;
}

function parentFields(parent: ParentInfo | undefined, style: Style): Field[] {
  if (!parent) return [];
  return [
    ['parent', printable(parent.path)],
    ['parent id', printable(parent.id)],
    ['parent link', statusText(parent, style)],
  ];
}

function fragmentationText({ percent, extents }: ImageInfo['fragmentation']): string {
  return `${percent} % (${extents} ${extents === 1 ? 'extent' : 'extents'})`;
}

function logText(log: ImageInfo['log'], style: Style): string | undefined {
  if (log === 'none') return undefined;
  return log === 'dirty' ? style.yellow('dirty: has to be replayed before the image is written') : log;
}

function imageLines(image: ImageInfo, style: Style): string[] {
  const { blockSize, payloadAlignment, id, creator } = image;
  const fields: Field[] = [
    ['format', `${FORMATS[image.format]}, ${image.type}`],
    ['virtual size', sizeText(image.virtualSize)],
    ['file size', sizeText(image.fileSize)],
    ['allocated', sizeText(image.allocatedBytes)],
    ['block size', blockSize === null ? undefined : sizeText(blockSize)],
    ['sectors', `${image.logicalSectorSize} bytes logical, ${image.physicalSectorSize} bytes physical`],
    ['id', id === null ? undefined : printable(id)],
    ['creator', creator === null ? undefined : printable(creator)],
    ['payload alignment', payloadAlignment === null ? undefined : sizeText(payloadAlignment)],
    ['fragmentation', fragmentationText(image.fragmentation)],
    ['log', logText(image.log, style)],
    ...parentFields(image.parent, style),
  ];
  const warnings = findingLines(image.warnings, style).map((line) => `  ${line}`);
  return [style.bold(printable(image.path)), ...fieldLines(fields, style), ...warnings];
}

/** The image, or with a chain every image of it, top first. */
export function renderInfo(result: InfoResult, style: Style): string[] {
  const { chain } = result;
  if (!chain || chain.length < 2) return imageLines(result, style);
  const names = chain.map(({ path }) => printable(basename(path))).join(' → ');
  const images = chain.flatMap((image) => ['', ...imageLines(image, style)]);
  return [`${style.dim('chain:')} ${names}`, ...images];
}

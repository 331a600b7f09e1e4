/** `info` as text. */
import type { ImageInfo, InfoResult } from '../../operations/info.js';
import { chainLines, sizeRemark, verdictText } from './chain.js';
import { printable, type Style } from './style.js';
import { type Field, fieldLines, findingLines, sizeText } from './text.js';

const FORMATS = { raw: 'raw', vhd: 'VHD', vhdx: 'VHDX' } as const;

function parentFields(image: ImageInfo, style: Style): Field[] {
  const { parent } = image;
  if (!parent) return [];
  return [
    ['parent', printable(parent.path)],
    ['parent id', printable(parent.id)],
    ['parent link', verdictText(parent, style)],
    ['parent size', sizeRemark(image)],
  ];
}

function fragmentationText({ percent, extents }: ImageInfo['fragmentation']): string {
  return `${percent} % (${extents} ${extents === 1 ? 'extent' : 'extents'})`;
}

function logText(log: ImageInfo['log'], style: Style): string | undefined {
  if (log === 'none') return undefined;
  return log === 'dirty' ? style.yellow('dirty: has to be replayed before the image is written') : log;
}

function snapshotsText({ snapshots, brokenSnapshots }: ImageInfo): string | undefined {
  if (snapshots === undefined) return undefined;
  return brokenSnapshots === undefined
    ? String(snapshots)
    : `${snapshots}, ${brokenSnapshots} of them broken`;
}

function imageLines(image: ImageInfo, style: Style): string[] {
  const { blockSize, payloadAlignment, id, linkId, creator } = image;
  const fields: Field[] = [
    ['format', `${FORMATS[image.format]}, ${image.type}`],
    ['virtual size', sizeText(image.virtualSize)],
    ['file size', sizeText(image.fileSize)],
    ['allocated', sizeText(image.allocatedBytes)],
    ['block size', blockSize === null ? undefined : sizeText(blockSize)],
    ['sectors', `${image.logicalSectorSize} bytes logical, ${image.physicalSectorSize} bytes physical`],
    ['id', id === null ? undefined : printable(id)],
    ['id for children', linkId === null || linkId === id ? undefined : printable(linkId)],
    ['creator', creator === null ? undefined : printable(creator)],
    ['payload alignment', payloadAlignment === null ? undefined : sizeText(payloadAlignment)],
    ['fragmentation', fragmentationText(image.fragmentation)],
    ['log', logText(image.log, style)],
    ['snapshots', snapshotsText(image)],
    ['half-way back', image.restoring && `to ${printable(image.restoring)}: restore it again to finish`],
    ...parentFields(image, style),
  ];
  const warnings = findingLines(image.warnings, style).map((line) => `  ${line}`);
  return [style.bold(printable(image.path)), ...fieldLines(fields, style), ...warnings];
}

/** The image, or with a chain the list of its images and then every one of them, top first. */
export function renderInfo(result: InfoResult, style: Style): string[] {
  const { chain } = result;
  if (!chain || (chain.length < 2 && !result.parent)) return imageLines(result, style);
  const count = `${chain.length} ${chain.length === 1 ? 'image' : 'images'}`;
  const images = chain.flatMap((image) => ['', ...imageLines(image, style)]);
  return [`${style.bold('chain')} of ${count}, top first`, ...chainLines(chain, style), ...images];
}

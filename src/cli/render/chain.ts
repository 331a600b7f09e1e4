/**
 * A chain of images as an indented list, each parent with the verdict on the link that leads to it.
 */
import { formatSize } from '../../base/bytes.js';
import type { LinkVerdict, ParentInfo } from '../../operations/link-info.js';
import { printable, type Style } from './style.js';

/** What the list needs of an image. */
export interface ListedImage {
  path: string;
  virtualSize: number;
  parent?: ParentInfo;
}

/** Deeper images are not indented any further, so that lines stay readable. */
const MAX_INDENT = 12;

const VERDICTS: Readonly<Record<LinkVerdict, string>> = {
  matches: 'matches',
  moved: 'matches, moved',
  modified: 'modified since the child was made',
  missing: 'missing: no file under any of the names the image gives',
  'wrong-id': 'mismatch: it is not the image this one was made from',
  'wrong-format': 'mismatch: it is not the image this one was made from',
  'wrong-sectors': 'mismatch: its sectors have another size',
  unreadable: 'unreadable',
  loop: 'loop',
  'too-deep': 'too deep',
};

function utc(milliseconds: number): string {
  const format = new Intl.DateTimeFormat('sv-SE', {
    timeZone: 'UTC',
    dateStyle: 'short',
    timeStyle: 'medium',
  });
  return `${format.format(milliseconds)} UTC`;
}

function remarks(parent: ParentInfo): string[] {
  const { verdict, reason, storedPath, times } = parent;
  const texts: string[] = [];
  if (reason !== undefined) texts.push(printable(reason));
  if (verdict === 'moved' && storedPath !== null) texts.push(`the child says ${printable(storedPath)}`);
  if (times) {
    texts.push(`its file was changed ${utc(times.found)}, the child remembers ${utc(times.expected)}`);
  }
  return texts;
}

/** A verdict with what there is to say about it. */
export function verdictText(parent: ParentInfo, style: Style): string {
  const sound = parent.verdict === 'matches' || parent.verdict === 'moved';
  const text = VERDICTS[parent.verdict];
  const said = remarks(parent);
  return `${sound ? style.green(text) : style.red(text)}${said.length > 0 ? ` (${said.join('; ')})` : ''}`;
}

/** How the parent's size compares, where that is remarkable. */
export function sizeRemark(child: ListedImage): string | undefined {
  const size = child.parent?.virtualSize;
  if (size === undefined || size === child.virtualSize) return undefined;
  return size < child.virtualSize
    ? `smaller than its child: zeros from ${formatSize(size)} on`
    : `larger than its child, which shows the first ${formatSize(child.virtualSize)}`;
}

function line(depth: number, path: string, said: string): string {
  const indent = '  '.repeat(Math.min(depth, MAX_INDENT));
  return `  ${String(depth).padStart(3)}  ${indent}${printable(path)}${said}`;
}

/** The list, top first; the last line is a parent that was not reached, if there is one. Empty for a lone image. */
export function chainLines(images: readonly ListedImage[], style: Style): string[] {
  const [top] = images;
  if (!top || (images.length < 2 && !top.parent)) return [];
  const lines = [line(0, top.path, '')];
  for (const [depth, image] of images.entries()) {
    if (!image.parent) continue;
    const path = images[depth + 1]?.path ?? image.parent.path;
    const size = sizeRemark(image);
    const said = [verdictText(image.parent, style), ...(size ? [size] : [])].join('; ');
    lines.push(line(depth + 1, path, `  ${said}`));
  }
  return lines;
}

/**
 * What a new size means for what is on the disk: decided before anything is changed.
 *
 * Invariants: nothing that a partition table, a file system or plain payload shows to be in use is cut off
 * unless that was asked for, and then it is named. A table that can't be believed counts as in use. Only
 * reads, and only what it must: payload behind the new end is looked at where no table says what is used.
 */
import { MiB, roundUp } from '../../base/bytes.js';
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import { isZero } from '../../base/zeros.js';
import { type DataExtent, walkExtents } from '../../block/extent.js';
import type { Chain } from '../../formats/chain.js';
import type { Finding } from '../../formats/finding.js';
import { readDisk } from '../../formats/image-reader.js';
import { type GptMove, moveGptBackup, smallestGptDisk } from '../../guestfs/gpt-move.js';
import { type DiskLayout, readDiskLayout } from '../../guestfs/resize-layout.js';
import type { ProgressSink } from '../host.js';
import type { Loss, ResizeOptions, ResizeResult } from './types.js';

const READ_WINDOW = MiB;

export interface ResizePlan {
  oldSize: number;
  newSize: number;
  layout: DiskLayout;
  /** The writes that move the GPT's backup; undefined when it stays. */
  move: GptMove | undefined;
  gptBackup: ResizeResult['gptBackup'];
  lost: Loss[];
  warnings: Finding[];
}

function warning(code: string, message: string): Finding {
  return { code, severity: 'warning', message, repairable: false };
}

function refuse(path: string, message: string, hint: string, context: object = {}): never {
  throw new VhdkitError('UNSUPPORTED', `${path}: ${message}`, {
    operation: 'resize',
    context: { path, ...context },
    hint,
  });
}

/** The new size in bytes. @throws INVALID_ARGUMENT */
export function targetSize(chain: Chain, { path, size }: ResizeOptions): number {
  const { top } = chain;
  const wanted = 'to' in size ? size.to : top.virtualSize + size.by;
  const unit = top.logicalSectorSize;
  if (Number.isSafeInteger(wanted) && wanted > 0 && wanted % unit === 0) return wanted;
  const message =
    wanted <= 0
      ? `${path} has ${top.virtualSize} bytes: a disk of ${wanted} bytes is not possible`
      : `${path}: ${wanted} bytes are not whole sectors of ${unit} bytes`;
  const nearest = roundUp(Math.max(wanted, 1), unit);
  throw new VhdkitError('INVALID_ARGUMENT', message, {
    operation: 'resize',
    context: { path, size: wanted, virtualSize: top.virtualSize },
    hint:
      wanted <= 0
        ? 'Choose a size above 0.'
        : `Choose ${nearest}, or a multiple of 1M, which every system takes.`,
  });
}

/** True when the GPT's backup is in the last sectors of a disk of that size. */
function backupIsAtEnd({ gpt }: DiskLayout, size: number): boolean {
  if (!gpt?.backup) return false;
  return gpt.backup.header.myLba === Math.floor(size / gpt.sectorSize) - 1;
}

/** True when a disk of that size holds all of the backup, and every sector that the GPT calls usable. */
function tableFits({ gpt }: DiskLayout, size: number): boolean {
  if (!gpt) return true;
  const { backup, sectorSize, valid } = gpt;
  const last = Math.max(valid.header.lastUsable, backup?.header.myLba ?? 0);
  return (last + 1) * sectorSize <= size;
}

/** What of partitions and file systems lies behind `end`. */
function cutSpans({ spans }: DiskLayout, oldSize: number, end: number): Loss[] {
  return spans
    .filter(({ offset, length }) => offset + length > end)
    .map(({ label, offset, length }) => {
      const from = Math.max(offset, end);
      return { what: label, offset: from, length: Math.max(0, Math.min(offset + length, oldSize) - from) };
    });
}

interface Search {
  chain: Chain;
  from: number;
  signal: AbortSignal | undefined;
  progress: ProgressSink | undefined;
}

async function firstNonZero(extent: DataExtent, search: Search): Promise<number | undefined> {
  const { chain, from, signal, progress } = search;
  const buffer = new Uint8Array(Math.min(READ_WINDOW, extent.length));
  for (let at = 0; at < extent.length; at += buffer.length) {
    throwIfAborted(signal, 'resize');
    progress?.update(extent.offset + at - from, chain.virtualSize - from);
    const part = buffer.subarray(0, Math.min(buffer.length, extent.length - at));
    part.fill(0, await extent.file.read(part, extent.fileOffset + at));
    if (!isZero(part)) return extent.offset + at + part.findIndex((byte) => byte !== 0);
  }
  return undefined;
}

/** Where the first byte other than zero lies, from a place to the end of the disk. */
async function findData(search: Search): Promise<number | undefined> {
  const { chain, from } = search;
  for await (const extent of walkExtents(chain, { offset: from, length: chain.virtualSize - from })) {
    if (extent.state !== 'data') continue;
    const found = await firstNonZero(extent, search);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** What a smaller disk loses. @throws UNSUPPORTED unless cutting was asked for */
async function judgeShrink(
  chain: Chain,
  layout: DiskLayout,
  newSize: number,
  options: ResizeOptions,
): Promise<Loss[]> {
  const { path, shrink, signal, progress } = options;
  const oldSize = chain.virtualSize;
  const lost = cutSpans(layout, oldSize, newSize);
  const [first] = lost;
  const end = Math.max(0, ...layout.spans.map(({ offset, length }) => offset + length));
  if (first && !shrink) {
    const smallest = layout.gpt ? smallestGptDisk(layout.gpt) : roundUp(end, chain.top.logicalSectorSize);
    const others = lost.length > 1 ? ` and ${lost.length - 1} more` : '';
    const message = `a disk of ${newSize} bytes would cut off ${first.length} bytes of ${first.what}${others}`;
    const hint = `Make it smaller in the guest first, or choose at least ${smallest} bytes. --shrink cuts, and what lies behind the new end is lost.`;
    refuse(path, message, hint, {
      offset: first.offset,
      length: first.length,
      partitions: lost.map(({ what }) => what),
    });
  }
  const [doubt] = layout.doubts;
  if (doubt !== undefined && !shrink) {
    refuse(
      path,
      `nobody can tell what lies behind the new end: ${doubt}`,
      'Repair the table in the guest (gdisk, fdisk) first. --shrink cuts nevertheless, and what lies behind the new end is lost.',
    );
  }
  if (layout.table === 'none') {
    const found = await findData({ chain, from: newSize, signal, progress });
    if (found !== undefined && !shrink) {
      const message = `the disk has no partition table, and there is data behind the new end (at byte ${found})`;
      refuse(
        path,
        message,
        'Choose a larger size. --shrink cuts, and what lies behind the new end is lost.',
        { offset: found },
      );
    }
    if (found !== undefined) lost.push({ what: 'data', offset: found, length: oldSize - found });
  }
  return lost;
}

/** Whether the backup of the GPT must or can stay where it is. @throws UNSUPPORTED */
function judgeGpt(
  layout: DiskLayout,
  oldSize: number,
  newSize: number,
  options: ResizeOptions,
): Pick<ResizePlan, 'move' | 'gptBackup' | 'warnings'> {
  const { path, moveGpt, shrink } = options;
  const { gpt } = layout;
  if (!gpt) {
    const text = 'there is no GPT on the disk whose copy could be moved';
    return { move: undefined, gptBackup: null, warnings: moveGpt ? [warning('RESIZE_NO_GPT', text)] : [] };
  }
  if (newSize % gpt.sectorSize !== 0) {
    throw new VhdkitError(
      'INVALID_ARGUMENT',
      `${path}: ${newSize} bytes are not whole sectors of ${gpt.sectorSize} bytes, which the GPT counts in`,
      {
        operation: 'resize',
        context: { path, size: newSize },
        hint: `Choose ${roundUp(newSize, gpt.sectorSize)}.`,
      },
    );
  }
  const inPlace = backupIsAtEnd(layout, newSize);
  if (inPlace && newSize === oldSize) return { move: undefined, gptBackup: 'inPlace', warnings: [] };
  if (moveGpt) {
    const move = moveGptBackup(gpt, { size: newSize, cut: shrink ?? false });
    return { move, gptBackup: 'moved', warnings: [] };
  }
  if (!gpt.primary && newSize !== oldSize) {
    refuse(
      path,
      'the primary copy of the GPT is damaged, and the other one is found only at the end of the disk',
      'Repair the table first: in the guest, or with gdisk (r, b, w) on a raw image.',
    );
  }
  if (!tableFits(layout, newSize)) {
    refuse(
      path,
      'the backup copy of the GPT lies behind the new end',
      'Add --move-gpt, which moves it to the new end.',
    );
  }
  if (inPlace) return { move: undefined, gptBackup: 'inPlace', warnings: [] };
  const text =
    'the backup copy of the GPT is not at the end of the disk; --move-gpt, or the guest, moves it there';
  return { move: undefined, gptBackup: 'left', warnings: [warning('RESIZE_GPT_BACKUP', text)] };
}

/**
 * Decides what is to be done.
 * @throws INVALID_ARGUMENT, UNSUPPORTED (something would be lost), CANCELLED, IMAGE_CORRUPT, IO_FAILED
 */
export async function planResize(chain: Chain, options: ResizeOptions): Promise<ResizePlan> {
  const { top, virtualSize: oldSize } = chain;
  const newSize = targetSize(chain, options);
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(length);
    await readDisk(chain, bytes, offset);
    return bytes;
  };
  const known = top.format === 'raw' ? undefined : top.logicalSectorSize;
  const layout = await readDiskLayout(read, oldSize, known);
  const cut = newSize < oldSize ? await judgeShrink(chain, layout, newSize, options) : [];
  const { move, gptBackup, warnings } = judgeGpt(layout, oldSize, newSize, options);
  // The copy of the table takes a little more away than the new end does.
  const lost = move && move.cut.length > 0 ? cutSpans(layout, oldSize, move.end) : cut;
  for (const { what, length } of lost)
    warnings.push(warning('RESIZE_CUT', `${length} bytes of ${what} are cut off`));
  if (newSize < oldSize) warnings.push(...layout.doubts.map((text) => warning('RESIZE_TABLE_DAMAGED', text)));
  return { oldSize, newSize, layout, move, gptBackup, lost, warnings };
}

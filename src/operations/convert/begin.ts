/**
 * Starts the target of a conversion, or takes up the one that an interrupted run left.
 *
 * Invariant: what was left is taken up only when source and settings are those of then; otherwise the file
 * is emptied before anything is written to it.
 */
import { isVhdkitError } from '../../base/errors.js';
import type { CreateImageOptions, DiskImage, FormatId } from '../../formats/disk-image.js';
import { createImage, resumeImage } from '../../formats/registry.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import { NOTHING_MOVED } from '../bytes-moved.js';
import type { OpenTarget } from '../target.js';
import { decodeJournal, encodeJournal, type Journal, objection, type SourceIdentity } from './journal.js';

export interface Beginning {
  image: DiskImage;
  /** Everything in front of it is in the image. */
  position: number;
  bytes: BytesMoved;
  /** Why an interrupted run could not be continued. */
  reason?: string;
}

export interface BeginParts {
  target: OpenTarget;
  to: FormatId;
  options: CreateImageOptions;
  sources: readonly SourceIdentity[];
  settings: string;
}

async function takeUp(parts: BeginParts, journal: Journal | undefined): Promise<Beginning | string> {
  const { target, to, options, sources, settings } = parts;
  const now = { sources, settings, virtualSize: options.virtualSize, fileSize: target.file.size() };
  const against = objection(journal, now);
  if (against !== undefined || !journal) return against ?? 'there is no journal';
  // Taking it up cuts off what its tables do not name, and behind a fixed VHD the footer that the last
  // checkpoint wrote: a run that is killed after that leaves a shorter file, which is no damage.
  const kept = options.type === 'fixed' ? Math.min(journal.fileSize, options.virtualSize) : 0;
  await target.resumable?.record(encodeJournal({ ...journal, fileSize: kept }));
  try {
    const image = await resumeImage(target.file, to, options);
    return { image, position: journal.position, bytes: journal.bytes };
  } catch (error) {
    if (!isVhdkitError(error) || error.code !== 'IMAGE_CORRUPT') throw error;
    return `the unfinished file is damaged: ${error.message}`;
  }
}

/** @throws what creating an image throws */
export async function begin(parts: BeginParts): Promise<Beginning> {
  const { target, to, options } = parts;
  const { resumable } = target;
  let reason: string | undefined;
  if (resumable?.journal !== undefined) {
    const taken = await takeUp(parts, decodeJournal(resumable.journal));
    if (typeof taken !== 'string') return taken;
    reason = taken;
    await resumable.restart();
  }
  const image = await createImage(target.file, to, options);
  return { image, position: 0, bytes: NOTHING_MOVED, ...(reason === undefined ? {} : { reason }) };
}

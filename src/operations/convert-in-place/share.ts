/**
 * Changes the type of a VHD, whose layouts differ, by laying out a new file that shares the old one's extents
 * and takes its place.
 *
 * Invariants: no payload is copied (edges that are no whole blocks of the file system aside), or nothing is
 * done at all; the old file stays as it is until the new one is complete and durable, and then the name
 * changes hands at once. The disk keeps its id and its age, the file its owner, mode and time, so children
 * match as before.
 *
 * Why not within the file: a fixed VHD has its payload in one piece, a dynamic one has a bitmap in front of
 * every block. Inserting or collapsing ranges moves payload while the only footer says where it was, so the
 * image could not be opened at the instants between, and undoing them takes a journal that no reader knows.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { type Extent, walkExtents } from '../../block/extent.js';
import type { DiskImage } from '../../formats/disk-image.js';
import { createImage } from '../../formats/registry.js';
import { forecast, type SessionOptions, transfer } from '../../offload/transfer-session.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import { decide } from '../compact/decide.js';
import { MAX_REQUEST } from '../convert/move.js';
import type { Host } from '../host.js';
import { sessionFor } from '../session.js';
import { reserveFile } from './reserve.js';
import type { FileFacts, InPlaceOptions } from './types.js';

export interface Shared {
  bytes: BytesMoved;
  after: FileFacts;
  zerosGivenBack: number;
}

/** Extents can be shared in units of this size at least. */
const SHARING_UNIT = 4096;

function cannotShare(path: string, type: string, reason: string, cause?: unknown): VhdkitError {
  return new VhdkitError(
    'UNSUPPORTED',
    `${path} can't become a ${type} VHD in place: that takes another layout, and ${reason}`,
    {
      operation: 'convert in place',
      context: { path },
      ...(cause === undefined ? {} : { cause }),
      hint: `Convert it into a new file (vhdkit convert ${path} NEW.vhd --type ${type}), then put that in its place. In place it works where storage shares extents (XFS, btrfs).`,
    },
  );
}

function explained(error: unknown, { path, type }: InPlaceOptions): unknown {
  if (!isVhdkitError(error) || error.code !== 'OFFLOAD_UNSUPPORTED') return error;
  const reason = String(error.context.reason ?? 'extents can not be shared');
  return cannotShare(path, type, `its payload can't be shared with the new one: ${reason}`, error);
}

/** The disk's extents in order; ranges of zeros that are stored count as zero with `scan`. */
async function* shownExtents(
  image: DiskImage,
  scan: boolean,
  note: (zeros: number) => void,
): AsyncGenerator<Extent> {
  const walk = walkExtents(image, { offset: 0, length: image.virtualSize }, MAX_REQUEST);
  if (!scan) return yield* walk;
  const zeros = decide(image, { zeros: true });
  try {
    let next = await zeros.next();
    for await (const extent of walk) {
      const end = extent.offset + extent.length;
      let at = extent.offset;
      const part = (to: number): Extent =>
        extent.state === 'data'
          ? { ...extent, offset: at, length: to - at, fileOffset: extent.fileOffset + (at - extent.offset) }
          : { ...extent, offset: at, length: to - at };
      while (!next.done && next.value.offset < end) {
        const start = Math.max(at, next.value.offset);
        const zeroEnd = next.value.offset + next.value.length;
        const stop = Math.min(end, zeroEnd);
        if (start > at) yield part(start);
        at = start;
        if (stop > at) {
          if (extent.state === 'data') note(stop - at);
          yield { state: 'zero', offset: at, length: stop - at };
        }
        at = Math.max(at, stop);
        // One that reaches into the next extent is looked at again there.
        if (zeroEnd > end) break;
        next = await zeros.next();
      }
      if (at < end) yield part(end);
    }
  } finally {
    await zeros.return(undefined);
  }
}

async function assertAligned(image: DiskImage, { path, type }: InPlaceOptions): Promise<void> {
  const { payloadAlignment } = await image.layout();
  if (payloadAlignment === undefined || payloadAlignment >= SHARING_UNIT) return;
  const reason = `its blocks begin at multiples of ${payloadAlignment} bytes only, so their extents can't be shared`;
  throw cannotShare(path, type, reason);
}

/**
 * Carries it out, or with `dryRun` finds out whether it can be.
 * @param image open for writing and locked, but not changed here
 * @throws UNSUPPORTED (extents can't be shared), NO_SPACE, CANCELLED, IO_FAILED
 */
export async function shareIntoNewLayout(
  host: Host,
  image: DiskImage,
  options: InPlaceOptions,
): Promise<Shared> {
  const { path, type, signal, progress, dryRun } = options;
  await assertAligned(image, options);
  const pending = await host.fileSystem.createPending(path, { overwrite: true, like: true });
  let zerosGivenBack = 0;
  const extents = (scan: boolean): AsyncGenerator<Extent> =>
    shownExtents(image, scan, (zeros) => {
      zerosGivenBack += zeros;
    });
  const session: SessionOptions = {
    ...sessionFor(host, { provider: 'reflink', zeros: 'holes', ...(signal ? { signal } : {}) }),
    onProgress: (done) => progress?.update(done, image.virtualSize),
  };
  try {
    const { clock, random } = host;
    const { virtualSize, file } = image;
    const target = await createImage(pending.file, 'vhd', {
      type,
      virtualSize,
      clock,
      random,
      replaces: file,
    });
    const scan = type === 'dynamic' && options.zeros !== 'holes';
    const before = { fileSize: file.size(), allocatedBytes: await file.allocatedBytes() };
    if (dryRun) {
      const { bytes } = await forecast(extents(scan), target, session);
      await pending.discard();
      return { bytes, after: before, zerosGivenBack };
    }
    const bytes = await transfer(extents(scan), target, session);
    await target.flush();
    if (type === 'fixed') await reserveFile(pending.file, signal ? { signal } : {});
    const after = { fileSize: pending.file.size(), allocatedBytes: await pending.file.allocatedBytes() };
    await pending.publish();
    return { bytes, after, zerosGivenBack };
  } catch (error) {
    await pending.discard();
    throw explained(error, options);
  }
}

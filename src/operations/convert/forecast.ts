/**
 * What a conversion would do (for --dry-run), and how much of it costs time (for progress).
 *
 * Invariant: nothing is read but tables and the places of holes, and the target is not touched. Numbers
 * are exact where payload would not be looked at; where it would, they are upper bounds and say so.
 */
import { GiB, MiB } from '../../base/bytes.js';
import { walkExtents } from '../../block/extent.js';
import type { Chain } from '../../formats/chain.js';
import type { CreateImageOptions, DiskImage } from '../../formats/disk-image.js';
import { createImage } from '../../formats/registry.js';
import { LayoutFile } from '../../io/stream-layout-file.js';
import { forecast, type SessionOptions } from '../../offload/transfer-session.js';
import type { BytesMoved, Forecast } from '../../offload/transfer-types.js';
import type { ProgressSink } from '../host.js';
import { MAX_REQUEST } from './move.js';
import type { ConversionPlan } from './types.js';

export interface ForecastParts {
  chain: Chain;
  /** The target as it was created, without any payload. */
  image: DiskImage;
  session: SessionOptions;
}

export interface Preview {
  bytes: BytesMoved;
  /** Length of the result in bytes. */
  fileSize: number;
  plan: ConversionPlan;
}

/** Range of the disk in one prepared write of the layout: bounds what is held at a time. */
const LAID_OUT_AT_ONCE = 8 * GiB;

function ask({ chain, image, session }: ForecastParts, position: number): Promise<Forecast> {
  const range = { offset: position, length: chain.virtualSize - position };
  const { onProgress: _done, onCost: _cost, ...silent } = session;
  return forecast(walkExtents(chain, range, MAX_REQUEST), image, silent);
}

/** More are not laid out: the tables are held in memory. Every block adds the same to the length. */
const MOST_LAID_OUT = 2 * MiB;

/** Length in bytes of the image's file with so many blocks. */
async function sizeWith(blocks: number, image: DiskImage, made: CreateImageOptions): Promise<number> {
  // These have their length from the start.
  if (image.format === 'raw' || (image.format === 'vhdx' && image.type === 'fixed')) return image.file.size();
  if (image.type === 'fixed' || blocks <= MOST_LAID_OUT) return layOut(blocks, image, made);
  const [one, two] = [await layOut(1, image, made), await layOut(2, image, made)];
  return one + (blocks - 1) * (two - one);
}

/** Lays so many blocks out in memory, because only the format knows where it puts them. */
async function layOut(blocks: number, image: DiskImage, made: CreateImageOptions): Promise<number> {
  const layout = new LayoutFile(image.file.path);
  const model = await createImage(layout, image.format, made);
  const end = Math.min(blocks * (model.blockSize ?? 0), model.virtualSize);
  for (let at = 0; at < end && model.type !== 'fixed'; at += LAID_OUT_AT_ONCE) {
    await (await model.prepareWrite(at, Math.min(LAID_OUT_AT_ONCE, end - at))).commit();
  }
  await model.flush();
  return layout.size();
}

/**
 * What the conversion would do.
 * @throws OFFLOAD_UNSUPPORTED, TARGET_TOO_SMALL, CANCELLED, IO_FAILED
 */
export async function preview(parts: ForecastParts, made: CreateImageOptions): Promise<Preview> {
  const { bytes, blocks, scanned } = await ask(parts, 0);
  const { blockSize, type, virtualSize } = parts.image;
  const total = blockSize === undefined ? 0 : Math.ceil(virtualSize / blockSize);
  return {
    bytes,
    fileSize: await sizeWith(blocks, parts.image, made),
    plan: {
      blockSize: blockSize ?? null,
      blocks: type === 'fixed' ? total : blocks,
      totalBlocks: total,
      atMost: scanned > 0,
    },
  };
}

/**
 * The calls that tell a sink how far a transfer is, from `position` of the disk on. A sink that estimates
 * the time left is told, too, how many bytes have to be read or copied: sharing is free.
 * @throws what `forecast` throws
 */
export async function reporting(
  parts: ForecastParts,
  position: number,
  sink: ProgressSink,
): Promise<Pick<SessionOptions, 'onProgress' | 'onCost'>> {
  const size = parts.chain.virtualSize;
  if (!sink.estimates) return { onProgress: (done) => sink.update(done, size) };
  const { bytes } = await ask(parts, position);
  const expected = bytes.kernelCopied + bytes.buffered;
  let copied = 0;
  return {
    onCost: (more) => {
      copied += more;
    },
    // More than expected when extents could not be shared after all.
    onProgress: (done) => sink.update(done, size, { done: copied, total: Math.max(expected, copied) }),
  };
}

/**
 * `convert`: one disk, chain included, into a new image of any format.
 *
 * Invariant: the source is only read; the target appears under its name complete or not at all (a block
 * device, which can't be replaced, is written in place). The structures of every source image are checked
 * before the first byte moves: a table that contradicts itself is refused, not copied.
 *
 * Moving the bytes is the offload session's business, where they go is the target format's.
 */

import { walkExtents } from '../block/extent.js';
import { type Chain, openChain } from '../formats/chain.js';
import type { DiskImage } from '../formats/disk-image.js';
import { createImage } from '../formats/registry.js';
import { TokenManager } from '../offload/token-manager.js';
import { forecast, transfer } from '../offload/transfer-session.js';
import type { BytesMoved, TransferOptions } from '../offload/transfer-types.js';
import { assertNotSource, examine, imageOptions } from './convert/plan.js';
import type { ConvertOptions, ConvertResult } from './convert/types.js';
import type { Host } from './host.js';
import { type OpenTarget, openTarget, targetFormat } from './target.js';

export type { ConvertOptions, ConvertResult } from './convert/types.js';

/** Longest range handed to a provider at once: bounds the wait for progress and cancellation. */
const MAX_REQUEST = 1024 * 1024 * 1024;

/**
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, ALREADY_EXISTS,
 *   INVALID_ARGUMENT, TARGET_TOO_SMALL, OFFLOAD_UNSUPPORTED, SOURCE_CHANGED, NO_SPACE, CANCELLED, IO_FAILED
 */
export async function convert(host: Host, options: ConvertOptions): Promise<ConvertResult> {
  const started = host.clock.now();
  const chain = await openChain(
    host.fileSystem,
    options.source,
    options.from ? { format: options.from } : {},
  );
  try {
    const to = await targetFormat(host, options.target, options.to);
    await assertNotSource(host, chain, options.target);
    const warnings = await examine(chain);
    const target = await openTarget(host, options.target, options.force ?? false);
    try {
      const image = await createImage(target.file, to, imageOptions(host, chain.top, to, options));
      const bytes = await move(host, chain, image, options);
      const result: ConvertResult = {
        source: options.source,
        target: options.target,
        from: chain.top.format,
        to,
        type: image.type,
        virtualSize: image.virtualSize,
        fileSize: await finish(target, image, options.dryRun ?? false),
        bytes,
        elapsedMs: host.clock.now() - started,
        dryRun: options.dryRun ?? false,
        warnings,
      };
      return result;
    } catch (error) {
      await target.discard();
      throw error;
    }
  } finally {
    await chain.close();
  }
}

async function move(
  host: Host,
  chain: Chain,
  image: DiskImage,
  options: ConvertOptions,
): Promise<BytesMoved> {
  const total = chain.virtualSize;
  const extents = walkExtents(chain, { offset: 0, length: total }, MAX_REQUEST);
  const settings: TransferOptions = { provider: options.provider ?? 'auto', zeros: options.zeros ?? 'auto' };
  if (options.signal) settings.signal = options.signal;
  const { progress } = options;
  if (progress) settings.onProgress = (done) => progress.update(done, total);
  const manager = new TokenManager({ clock: host.clock, random: host.random });
  const run = options.dryRun ? forecast : transfer;
  return run(extents, image, { ...settings, manager });
}

/** Completes the target and gives it its name; in a dry run it vanishes. Returns its length in bytes. */
async function finish(target: OpenTarget, image: DiskImage, dryRun: boolean): Promise<number> {
  if (dryRun) {
    const size = image.file.size();
    await target.discard();
    return size;
  }
  await image.flush();
  const size = image.file.size();
  await target.publish();
  return size;
}

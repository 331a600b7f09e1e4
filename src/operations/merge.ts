/**
 * `merge`: what a child has goes into its parent, into an image further down its chain, or, chain included,
 * into a new image.
 *
 * Invariants: whoever looks through the child sees the same before, during and after, and wherever a crash
 * strikes: the target gets only what the child shows anyway, and the child stays as it is until the target
 * is durable. Running an interrupted merge again finishes it. Everything that can be refused is refused
 * before the first change.
 *
 * Moving bytes is the offload session's business; what a write into an existing image needs is the format's.
 */
import { isVhdkitError, VhdkitError } from '../base/errors.js';
import { Chain, openChain } from '../formats/chain.js';
import { TokenManager } from '../offload/token-manager.js';
import type { SessionOptions } from '../offload/transfer-session.js';
import { rateLimitOf } from './convert/pace.js';
import type { Host } from './host.js';
import { announce, removeMerged, settle } from './merge/links.js';
import { FLUSH_INTERVAL, foresee, type MergeParts, moveRuns } from './merge/move.js';
import { mergeIntoNew } from './merge/new-image.js';
import { type OpenImages, openImages } from './merge/open.js';
import { type MergePlan, planMerge } from './merge/plan.js';
import { survey } from './merge/runs.js';
import type { MergeOptions, MergeResult } from './merge/types.js';

export type { MergeOptions, MergeResult } from './merge/types.js';

/** What a merge did, or would do. */
type Outcome = Pick<MergeResult, 'bytes' | 'relinked' | 'stale' | 'deleted' | 'fileSize'>;

/**
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, PARENT_LOOP,
 *   CHAIN_TOO_DEEP, INVALID_ARGUMENT, UNSUPPORTED, IN_USE, PERMISSION_DENIED, OFFLOAD_UNSUPPORTED,
 *   SOURCE_CHANGED, NO_SPACE, TARGET_TOO_SMALL, CANCELLED, IO_FAILED
 */
export async function merge(host: Host, options: MergeOptions): Promise<MergeResult> {
  const started = host.clock.now();
  const { child, to } = options;
  const session = sessionOptions(host, options);
  if (to !== undefined && (await host.fileSystem.kind(to)) === 'absent') {
    return mergeIntoNew(host, options, to);
  }
  const plan = await planMerge(host, options);
  const images = await openImages(host, plan);
  try {
    const { target } = images;
    const sizeBefore = target.virtualSize;
    const outcome = await (options.dryRun ? rehearse : carryOut)(host, options, plan, images, session);
    const { virtualSize } = plan;
    return {
      child,
      target: plan.target,
      created: false,
      format: target.format,
      type: target.type,
      virtualSize,
      merged: plan.merged,
      ...outcome,
      ...(virtualSize === sizeBefore ? {} : { resized: { from: sizeBefore, to: virtualSize } }),
      elapsedMs: host.clock.now() - started,
      dryRun: options.dryRun ?? false,
      warnings: plan.warnings,
    };
  } finally {
    await images.close();
  }
}

function sessionOptions(host: Host, options: MergeOptions): SessionOptions {
  const { child, signal, rate, provider } = options;
  const rateLimit =
    rate === undefined ? undefined : rateLimitOf(host, { source: child, target: child, rate });
  return {
    provider: provider ?? 'auto',
    // Zeros that are stored are the child's business; looking for them would mean to read everything.
    zeros: 'holes',
    manager: new TokenManager({ clock: host.clock, random: host.random }),
    ...(signal ? { signal } : {}),
    ...(rateLimit ? { rateLimit } : {}),
  };
}

/** Opens the images above the target for reading, as they are now. */
async function openMerged(host: Host, plan: MergePlan): Promise<{ merged: Chain; close(): Promise<void> }> {
  const chain = await openChain(host.fileSystem, plan.merged[0] ?? plan.target);
  const merged = new Chain(chain.images.slice(0, plan.merged.length));
  return { merged, close: () => chain.close() };
}

async function partsOf(
  host: Host,
  options: MergeOptions,
  merged: Chain,
  images: OpenImages,
  session: SessionOptions,
): Promise<MergeParts> {
  const { flushInterval = FLUSH_INTERVAL, progress } = options;
  const load = await survey(merged, options.signal);
  const parts = { merged, target: images.target, load, session, clock: host.clock, flushInterval };
  return progress ? { ...parts, progress } : parts;
}

async function rehearse(
  host: Host,
  options: MergeOptions,
  plan: MergePlan,
  images: OpenImages,
  session: SessionOptions,
): Promise<Outcome> {
  const { merged, close } = await openMerged(host, plan);
  try {
    const bytes = await foresee(await partsOf(host, options, merged, images, session));
    const deleted = options.delete ? [...plan.merged].reverse() : [];
    const stale = options.delete ? [] : plan.merged.slice(1);
    return { bytes, relinked: plan.dependents, stale, deleted, fileSize: images.target.file.size() };
  } finally {
    await close();
  }
}

async function carryOut(
  host: Host,
  options: MergeOptions,
  plan: MergePlan,
  images: OpenImages,
  session: SessionOptions,
): Promise<Outcome> {
  try {
    await announce(images, plan);
    const { merged, close } = await openMerged(host, plan);
    try {
      const bytes = await fill(await partsOf(host, options, merged, images, session), plan);
      const stale = await settle(images, plan);
      const facts = { bytes, relinked: plan.dependents, fileSize: images.target.file.size() };
      if (!options.delete) return { ...facts, stale, deleted: [] };
      await images.close();
      return { ...facts, stale: [], deleted: await removeMerged(host.fileSystem, plan) };
    } finally {
      await close();
    }
  } catch (error) {
    throw await interrupted(error, plan, images);
  }
}

/** The target becomes the child's disk: content and size. */
async function fill(parts: MergeParts, { virtualSize, beneath }: MergePlan): Promise<MergeResult['bytes']> {
  const { target } = parts;
  const sizes = beneath === undefined ? {} : { parentSize: beneath };
  if (target.virtualSize < virtualSize) await target.resize(virtualSize, sizes);
  const bytes = await moveRuns(parts);
  if (target.virtualSize > virtualSize) await target.resize(virtualSize, sizes);
  return bytes;
}

/** After a stop that running again cures: what was done is kept, and the error says so. */
async function interrupted(error: unknown, { merged }: MergePlan, { target }: OpenImages): Promise<unknown> {
  if (!isVhdkitError(error)) return error;
  const { code, operation, context } = error;
  if (code !== 'CANCELLED' && code !== 'NO_SPACE') return error;
  await target.flush().catch(() => undefined);
  const first = code === 'NO_SPACE' ? 'Free some space, then run' : 'Run';
  return new VhdkitError(code, error.message, {
    ...(operation === undefined ? {} : { operation }),
    context,
    cause: error,
    hint: `${first} the same command again: it finishes. Until then ${merged[0]} shows what it always did.`,
  });
}

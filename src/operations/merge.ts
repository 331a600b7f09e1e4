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
import type { SessionOptions } from '../offload/transfer-session.js';
import type { BytesMoved } from '../offload/transfer-types.js';
import type { Host } from './host.js';
import { forgetLeftovers } from './merge/leftovers.js';
import { announce, removals, removeMerged, settle } from './merge/links.js';
import { FLUSH_INTERVAL, foresee, type MergeParts, moveRuns } from './merge/move.js';
import { mergeIntoNew } from './merge/new-image.js';
import { type OpenImages, openImages } from './merge/open.js';
import { type MergePlan, planMerge } from './merge/plan.js';
import { type Load, survey } from './merge/runs.js';
import type { MergeOptions, MergeResult } from './merge/types.js';
import { sessionFor } from './session.js';

export type { MergeOptions, MergeResult } from './merge/types.js';

/** A merge whose images are open and locked. */
interface Job {
  host: Host;
  options: MergeOptions;
  plan: MergePlan;
  images: OpenImages;
  session: SessionOptions;
}

/** What was done to the target, or would be. */
interface Outcome {
  bytes: BytesMoved;
  /** Paths. */
  stale: readonly string[];
  fileSize: number;
}

/**
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, PARENT_LOOP,
 *   CHAIN_TOO_DEEP, INVALID_ARGUMENT, UNSUPPORTED, IN_USE, PERMISSION_DENIED, OFFLOAD_UNSUPPORTED,
 *   SOURCE_CHANGED, NO_SPACE, TARGET_TOO_SMALL, CANCELLED, IO_FAILED
 */
export async function merge(host: Host, options: MergeOptions): Promise<MergeResult> {
  const started = host.clock.now();
  const { child, to, dryRun = false } = options;
  // Zeros that are stored are the child's business; looking for them would mean to read everything.
  const session = sessionFor(host, { ...options, zeros: 'holes' });
  if (to !== undefined && (await host.fileSystem.kind(to)) === 'absent') {
    return mergeIntoNew(host, options, to);
  }
  const plan = await planMerge(host, options);
  const images = await openImages(host, plan);
  const { format, type, virtualSize: from } = images.target;
  const { target, merged, virtualSize, warnings } = plan;
  const outcome = await closing(images, () =>
    (dryRun ? rehearse : carryOut)({ host, options, plan, images, session }),
  );
  const deleted = options.delete ? await (dryRun ? removals(plan) : removeMerged(host, plan)) : [];
  return {
    child,
    target,
    created: false,
    format,
    type,
    virtualSize,
    merged,
    ...outcome,
    ...(virtualSize === from ? {} : { resized: { from, to: virtualSize } }),
    relinked: plan.dependents,
    deleted,
    elapsedMs: host.clock.now() - started,
    dryRun,
    warnings,
  };
}

/** Closes the images in any case. An error of the work says more than one of closing. */
async function closing<T>(images: OpenImages, work: () => Promise<T>): Promise<T> {
  let result: T;
  try {
    result = await work();
  } catch (error) {
    await images.close().catch(() => undefined);
    throw error;
  }
  await images.close();
  return result;
}

/** Does something with the images above the target, opened for reading as they are now. */
async function withMerged<T>({ host, plan }: Job, work: (merged: Chain) => Promise<T>): Promise<T> {
  const chain = await openChain(host.fileSystem, plan.merged[0] ?? plan.target);
  try {
    return await work(new Chain(chain.images.slice(0, plan.merged.length)));
  } finally {
    await chain.close();
  }
}

function partsOf({ host, options, images, session }: Job, merged: Chain, load: Load): MergeParts {
  const { flushInterval = FLUSH_INTERVAL, progress } = options;
  const parts = { merged, target: images.target, load, session, clock: host.clock, flushInterval };
  return progress ? { ...parts, progress } : parts;
}

/** What is to be done, and whether the target would be changed at all. */
async function loadOf(job: Job): Promise<Load & { idle: boolean }> {
  const load = await withMerged(job, (merged) => survey(merged, job.options.signal));
  const sameSize = job.images.target.virtualSize === job.plan.virtualSize;
  return { ...load, idle: sameSize && load.payload === 0 && load.zeros === 0 };
}

/** The images between child and target that are going to stay and are not what they were. */
function staleOf({ options, plan }: Job, idle: boolean): string[] {
  const untouched = idle && plan.merged.length > 1;
  return options.delete || untouched ? [] : plan.between.map(({ path }) => path);
}

async function rehearse(job: Job): Promise<Outcome> {
  const load = await loadOf(job);
  const bytes = await withMerged(job, (merged) => foresee(partsOf(job, merged, load)));
  return { bytes, stale: staleOf(job, load.idle), fileSize: job.images.target.file.size() };
}

async function carryOut(job: Job): Promise<Outcome> {
  const { host, options, plan, images } = job;
  const { child, target } = images;
  try {
    const load = await loadOf(job);
    if (!load.idle) await announce(images, plan);
    const bytes = await withMerged(job, (merged) => fill(partsOf(job, merged, load), plan));
    const stale = staleOf(job, load.idle);
    // Nothing was changed, and nobody waits for a link to be put right: nothing is written at all.
    const isSettled = load.idle && !options.delete && stale.length === 0 && plan.acceptedIds.length < 2;
    if (!isSettled) await settle(host, images, plan);
    if (!options.delete) await forgetLeftovers(host.fileSystem, child.file.path);
    return { bytes, stale, fileSize: target.file.size() };
  } catch (error) {
    throw await interrupted(error, job);
  }
}

/** The target becomes the child's disk: content and size. */
async function fill(parts: MergeParts, { virtualSize, beneath }: MergePlan): Promise<BytesMoved> {
  const { target } = parts;
  const sizes = beneath === undefined ? {} : { parentSize: beneath };
  if (target.virtualSize < virtualSize) await target.resize(virtualSize, sizes);
  const bytes = await moveRuns(parts);
  if (target.virtualSize > virtualSize) await target.resize(virtualSize, sizes);
  return bytes;
}

/** After a stop that running again cures: what was done is kept, and the error says so. */
async function interrupted(error: unknown, { plan, images }: Job): Promise<unknown> {
  if (!isVhdkitError(error)) return error;
  const { code, operation, context } = error;
  if (code !== 'CANCELLED' && code !== 'NO_SPACE') return error;
  await images.target.flush().catch(() => undefined);
  const first = code === 'NO_SPACE' ? 'Free some space, then run' : 'Run';
  return new VhdkitError(code, error.message, {
    ...(operation === undefined ? {} : { operation }),
    context,
    cause: error,
    hint: `${first} the same command again: it finishes. Until then ${plan.merged[0]} shows what it always did.`,
  });
}

/**
 * `convert`: one disk, chain included, into a new image of any format.
 *
 * Invariant: the source is only read; the target appears under its name complete or not at all (a block
 * device, which can't be replaced, is written in place). The structures of every source image are checked
 * before the first byte moves: a table that contradicts itself is refused, not copied.
 *
 * Moving the bytes is the offload session's business, where they go is the target format's.
 */
import { isVhdkitError } from '../base/errors.js';
import type { Chain } from '../formats/chain.js';
import type { CreateImageOptions } from '../formats/disk-image.js';
import type { SessionOptions } from '../offload/transfer-session.js';
import type { BytesMoved } from '../offload/transfer-types.js';
import { type Beginning, begin } from './convert/begin.js';
import { type Preview, preview, reporting } from './convert/forecast.js';
import {
  assertUnchanged,
  encodeJournal,
  identitiesOf,
  type SourceIdentity,
  settingsOf,
} from './convert/journal.js';
import { CHECKPOINT_INTERVAL, moveDisk } from './convert/move.js';
import { paced } from './convert/pace.js';
import { assertNotSource, examine } from './convert/plan.js';
import { openSource } from './convert/source.js';
import { convertStraight, goesStraight } from './convert/stream-in.js';
import { convertToStream } from './convert/stream-out.js';
import { planTarget } from './convert/target-plan.js';
import type { ConvertOptions, ConvertResult } from './convert/types.js';
import { type Verification, verify } from './convert/verify.js';
import type { Host } from './host.js';
import { withProfile } from './profiles/apply.js';
import { rateLimitOf, sessionFor } from './session.js';
import { type OpenTarget, openTarget, targetFormat } from './target.js';

export type { ByteSink, ConversionPlan, ConvertOptions, ConvertResult } from './convert/types.js';

/** A conversion whose source and target are open. */
interface Job {
  host: Host;
  options: ConvertOptions;
  chain: Chain;
  /** The source's files as they were when they were opened. */
  sources: readonly SourceIdentity[];
  settings: string;
  target: OpenTarget;
  start: Beginning;
  session: SessionOptions;
}

/**
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, ALREADY_EXISTS,
 *   INVALID_ARGUMENT, TARGET_TOO_SMALL, OFFLOAD_UNSUPPORTED, SOURCE_CHANGED, NO_SPACE, IN_USE, CANCELLED,
 *   VERIFY_FAILED, IO_FAILED
 */
export async function convert(host: Host, asked: ConvertOptions): Promise<ConvertResult> {
  const started = host.clock.now();
  const rateLimit = rateLimitOf(host, asked);
  const options = withProfile(rateLimit ? paced(asked, rateLimit) : asked);
  const { output } = options;
  const to = await targetFormat(host, options.target, options.to);
  if (goesStraight(options, to)) return convertStraight(host, options, to);
  const source = await openSource(host, options);
  try {
    if (output) return await convertToStream(host, source, to, { ...options, output, started });
    const sources = identitiesOf(source);
    await assertNotSource(host, source, options.target);
    const warnings = await examine(source);
    const { sectors, made, warnings: remarks } = await planTarget(host, source, to, options);
    const { reblocked } = sectors;
    const chain = options.shown?.(sectors.chain) ?? sectors.chain;
    const settings = `${settingsOf(to, made, options.zeros ?? 'auto')}${reblocked ? ' reblocked' : ''}`;
    const target = await openTarget(host, options.target, {
      force: options.force ?? false,
      resume: options.resume ?? false,
      scratch: options.dryRun ?? false,
    });
    try {
      const start = await begin({ target, to, options: made, sources, settings });
      const { image } = start;
      const session = sessionFor(host, options, rateLimit);
      const job: Job = { host, options, chain, sources, settings, target, start, session };
      const outcome = options.dryRun
        ? await rehearse(job, made)
        : { bytes: await move(job), ...(await finish(job)) };
      const result: ConvertResult = {
        source: options.source,
        target: options.target,
        from: chain.top.format,
        to,
        type: image.type,
        virtualSize: image.virtualSize,
        ...outcome,
        elapsedMs: host.clock.now() - started,
        dryRun: options.dryRun ?? false,
        warnings: [...warnings, ...remarks, ...image.warnings],
        ...(options.profile ? { profile: options.profile } : {}),
        ...(reblocked ? { reblocked } : {}),
      };
      if (options.resume) result.resumed = resumedFrom(start);
      return result;
    } catch (error) {
      const wrong = isVhdkitError(error) && error.code === 'VERIFY_FAILED';
      await abandon(target, options.resume === true && !wrong);
      throw error;
    }
  } finally {
    await source.close();
  }
}

/** A dry run: what would be done. The target vanishes. */
async function rehearse(job: Job, made: CreateImageOptions): Promise<Preview> {
  const { chain, session, start, target } = job;
  const foreseen = await preview({ chain, session, image: start.image }, made);
  await target.discard();
  return foreseen;
}

async function move(job: Job): Promise<BytesMoved> {
  const { host, options, chain, sources, settings, target, start, session } = job;
  const { resumable } = target;
  const { image, position } = start;
  const { progress } = options;
  const reports = progress ? await reporting({ chain, session, image }, position, progress) : {};
  const bytes = await moveDisk({
    source: chain,
    target: image,
    session: { ...session, ...reports },
    clock: host.clock,
    position,
    bytes: start.bytes,
    interval: options.checkpointInterval ?? CHECKPOINT_INTERVAL,
    ...(resumable && {
      checkpoint: async (position: number, done: BytesMoved) => {
        assertUnchanged(chain, sources);
        const fileSize = target.file.size();
        await resumable.record(encodeJournal({ sources, settings, position, fileSize, bytes: done }));
      },
    }),
  });
  assertUnchanged(chain, sources);
  return bytes;
}

type Finished = Pick<ConvertResult, 'fileSize' | 'sha256' | 'verified'>;

/** Completes the target, verifies it if that was asked for, and gives it its name. */
async function finish(job: Job): Promise<Finished> {
  const { image } = job.start;
  await image.flush();
  const finished: Finished = { fileSize: image.file.size() };
  if (job.options.verify) {
    const { sha256, ...verified } = await readBack(job);
    Object.assign(finished, { sha256, verified });
  }
  await job.target.publish();
  return finished;
}

/** @throws SOURCE_CHANGED when that is why the two differ; VERIFY_FAILED, CANCELLED, IO_FAILED */
async function readBack({ host, options, chain, sources, target, start }: Job): Promise<Verification> {
  const { signal, onVerify } = options;
  const { image } = start;
  try {
    return await verify({
      fileSystem: host.fileSystem,
      source: chain,
      path: target.file.path,
      target: options.target,
      format: image.format,
      virtualSize: image.virtualSize,
      ...(signal ? { signal } : {}),
      ...(onVerify ? { progress: await onVerify() } : {}),
    });
  } finally {
    assertUnchanged(chain, sources);
  }
}

/** After a failure: nothing is left, unless the user wants to go on later. */
async function abandon(target: OpenTarget, keep: boolean): Promise<void> {
  if (keep && target.resumable) await target.resumable.keep();
  else await target.discard();
}

function resumedFrom({ position, reason }: Beginning): { position: number; reason?: string } {
  return { position, ...(reason === undefined ? {} : { reason }) };
}

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
import type { Chain } from '../formats/chain.js';
import { TokenManager } from '../offload/token-manager.js';
import { forecast, type SessionOptions } from '../offload/transfer-session.js';
import type { BytesMoved } from '../offload/transfer-types.js';
import { type Beginning, begin } from './convert/begin.js';
import {
  assertUnchanged,
  encodeJournal,
  identitiesOf,
  type SourceIdentity,
  settingsOf,
} from './convert/journal.js';
import { CHECKPOINT_INTERVAL, MAX_REQUEST, moveDisk } from './convert/move.js';
import { assertNotSource, examine, imageOptions } from './convert/plan.js';
import { openSource } from './convert/source.js';
import { convertStraight, goesStraight } from './convert/stream-in.js';
import { convertToStream } from './convert/stream-out.js';
import type { ConvertOptions, ConvertResult } from './convert/types.js';
import type { Host } from './host.js';
import { type OpenTarget, openTarget, targetFormat } from './target.js';

export type { ConvertOptions, ConvertResult } from './convert/types.js';

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
}

/**
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, ALREADY_EXISTS,
 *   INVALID_ARGUMENT, TARGET_TOO_SMALL, OFFLOAD_UNSUPPORTED, SOURCE_CHANGED, NO_SPACE, IN_USE, CANCELLED,
 *   IO_FAILED
 */
export async function convert(host: Host, options: ConvertOptions): Promise<ConvertResult> {
  const started = host.clock.now();
  const { output } = options;
  const to = await targetFormat(host, options.target, options.to);
  if (goesStraight(options, to)) return convertStraight(host, options, to);
  const chain = await openSource(host, options);
  try {
    if (output) return await convertToStream(host, chain, to, { ...options, output });
    const sources = identitiesOf(chain);
    await assertNotSource(host, chain, options.target);
    const warnings = await examine(chain);
    const made = imageOptions(host, chain.top, to, options);
    const settings = settingsOf(to, made, options.zeros ?? 'auto');
    const target = await openTarget(host, options.target, {
      force: options.force ?? false,
      resume: options.resume ?? false,
      scratch: options.dryRun ?? false,
    });
    let job: Job | undefined;
    try {
      const start = await begin({ target, to, options: made, sources, settings });
      job = { host, options, chain, sources, settings, target, start };
      const bytes = options.dryRun ? await preview(job) : await move(job);
      const { image } = start;
      const result: ConvertResult = {
        source: options.source,
        target: options.target,
        from: chain.top.format,
        to,
        type: image.type,
        virtualSize: image.virtualSize,
        fileSize: await finish(job),
        bytes,
        elapsedMs: host.clock.now() - started,
        dryRun: options.dryRun ?? false,
        warnings,
      };
      if (options.resume) result.resumed = resumedFrom(start);
      return result;
    } catch (error) {
      await abandon(target, options.resume ?? false);
      throw error;
    }
  } finally {
    await chain.close();
  }
}

function sessionOptions({ host, options, chain }: Job): SessionOptions {
  const { progress, signal } = options;
  const session: SessionOptions = {
    provider: options.provider ?? 'auto',
    zeros: options.zeros ?? 'auto',
    manager: new TokenManager({ clock: host.clock, random: host.random }),
  };
  if (signal) session.signal = signal;
  if (progress) session.onProgress = (done) => progress.update(done, chain.virtualSize);
  return session;
}

function preview(job: Job): Promise<BytesMoved> {
  const range = { offset: 0, length: job.chain.virtualSize };
  return forecast(walkExtents(job.chain, range, MAX_REQUEST), job.start.image, sessionOptions(job));
}

async function move(job: Job): Promise<BytesMoved> {
  const { host, options, chain, sources, settings, target, start } = job;
  const { resumable } = target;
  const bytes = await moveDisk({
    source: chain,
    target: start.image,
    session: sessionOptions(job),
    clock: host.clock,
    position: start.position,
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

/** Completes the target and gives it its name; in a dry run it vanishes. Returns its length in bytes. */
async function finish({ target, start, options }: Job): Promise<number> {
  const { image } = start;
  if (options.dryRun) {
    const size = image.file.size();
    await target.discard();
    return size;
  }
  await image.flush();
  const size = image.file.size();
  await target.publish();
  return size;
}

/** After a failure: nothing is left, unless the user wants to go on later. */
async function abandon(target: OpenTarget, keep: boolean): Promise<void> {
  if (keep && target.resumable) await target.resumable.keep();
  else await target.discard();
}

function resumedFrom({ position, reason }: Beginning): { position: number; reason?: string } {
  return { position, ...(reason === undefined ? {} : { reason }) };
}

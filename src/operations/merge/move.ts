/**
 * Brings what the merged images have into the target.
 *
 * Invariants: every range is moved once, from the topmost image that has it. Only the target is written
 * to, so that whoever looks through the child sees the same before, during and after. When `moveRuns`
 * returns, everything is durable in the target.
 */
import { MiB } from '../../base/bytes.js';
import type { Clock } from '../../base/clock.js';
import { throwIfAborted } from '../../base/errors.js';
import type { DataExtent } from '../../block/extent.js';
import type { Chain } from '../../formats/chain.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { forecast, type SessionOptions, transfer } from '../../offload/transfer-session.js';
import type { BytesMoved, TransferTarget } from '../../offload/transfer-types.js';
import { add, NOTHING_MOVED } from '../bytes-moved.js';
import type { ProgressSink } from '../host.js';
import { type Load, mergeRuns } from './runs.js';
import { WholeFiles } from './whole-file.js';

/**
 * Milliseconds between flushes: bounds what an interrupted merge leaves in the target without a name, and
 * what the target's format has to remember.
 */
export const FLUSH_INTERVAL = 10_000;

/**
 * Bytes of payload handed to one session: storage is asked to begin writing what a session has moved, so
 * that it works while the next one copies, and the flush in the end is short.
 */
const SLICE = 64 * MiB;

export interface MergeParts {
  /** The images above the target, top first. */
  merged: Chain;
  target: EditableImage;
  load: Load;
  session: SessionOptions;
  clock: Clock;
  /** Milliseconds. */
  flushInterval: number;
  progress?: ProgressSink;
}

/** In place, what a write does not reach stays what it was. */
function transferTarget(image: EditableImage): TransferTarget {
  return {
    file: image.file,
    unwrittenIsZero: false,
    blockSize: image.blockSize,
    prepareWrite: (offset, length) => image.prepareWrite(offset, length),
  };
}

/** The data among the runs, from files whose holes have been seen to. */
async function* dataOf(merged: Chain): AsyncGenerator<DataExtent> {
  const files = new WholeFiles();
  for await (const run of mergeRuns(merged)) {
    if (run.state === 'data') yield { ...run, file: files.of(run.file) };
  }
}

/** What `moveRuns` would answer, without reading payload or touching the target. */
export async function foresee({ merged, target, load, session }: MergeParts): Promise<BytesMoved> {
  const { onProgress: _done, onCost: _cost, ...silent } = session;
  const { bytes } = await forecast(dataOf(merged), transferTarget(target), silent);
  return { ...bytes, zeroed: bytes.zeroed + load.zeros };
}

/** Zeros first: they may free the space that the data needs. */
async function zeroRuns({ merged, target, load, session }: MergeParts): Promise<void> {
  if (load.zeros === 0) return;
  for await (const { state, offset, length } of mergeRuns(merged)) {
    throwIfAborted(session.signal, 'merge');
    if (state === 'zero') await target.zero(offset, length);
  }
}

/** The calls that tell the sink how much of the payload is done. */
async function reporting(parts: MergeParts): Promise<Pick<SessionOptions, 'onProgress' | 'onCost'>> {
  const { load, progress } = parts;
  if (!progress || load.payload === 0) return {};
  if (!progress.estimates) return { onProgress: (done) => progress.update(done, load.payload) };
  const { kernelCopied, buffered } = await foresee(parts);
  const expected = kernelCopied + buffered;
  let copied = 0;
  return {
    onCost: (more) => {
      copied += more;
    },
    onProgress: (done) =>
      progress.update(done, load.payload, { done: copied, total: Math.max(expected, copied) }),
  };
}

/** Takes one slice from the walk; calls `finished` when it was the last. */
async function* slice(walk: AsyncIterator<DataExtent>, finished: () => void): AsyncGenerator<DataExtent> {
  for (let taken = 0; taken < SLICE; ) {
    const step = await walk.next();
    if (step.done) return finished();
    taken += step.value.length;
    yield step.value;
  }
}

async function moveData(parts: MergeParts): Promise<BytesMoved> {
  const { merged, target, session, clock, flushInterval } = parts;
  const reports = await reporting(parts);
  const { onProgress } = reports;
  const into = transferTarget(target);
  const walk = dataOf(merged);
  let bytes: BytesMoved = NOTHING_MOVED;
  let finished = false;
  let base = 0;
  onProgress?.(0);
  try {
    let flushed = clock.now();
    while (!finished) {
      const extents = slice(walk, () => {
        finished = true;
      });
      const own = onProgress ? { onProgress: (done: number) => onProgress(base + done) } : {};
      const moved = await transfer(extents, into, { ...session, ...reports, ...own });
      base += moved.shared + moved.kernelCopied + moved.buffered + moved.zeroed;
      bytes = add(bytes, moved);
      if (finished || clock.now() - flushed < flushInterval) continue;
      await target.flush();
      flushed = clock.now();
    }
    return bytes;
  } finally {
    await walk.return(undefined);
  }
}

/**
 * @throws what `transfer` and the target throw; what was done until then is in the target, though not
 *   flushed
 */
export async function moveRuns(parts: MergeParts): Promise<BytesMoved> {
  await zeroRuns(parts);
  const bytes = await moveData(parts);
  await parts.target.flush();
  return { ...bytes, zeroed: bytes.zeroed + parts.load.zeros };
}

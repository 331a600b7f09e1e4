/**
 * Lays a file out anew where the host's file system scattered it: a copy in as few extents as the file
 * system gives takes its place.
 *
 * Invariants: the copy is the same byte for byte, holes included; the old file stays as it is until the new
 * one is complete and durable, and then the name changes hands at once. Owner, mode and time stay. Storage
 * is reserved first, so that nothing is copied when that would be no better; bytes are written and never
 * shared, which would bring back the old places.
 *
 * Not here: the order of blocks within the file.
 */
import { MiB } from '../../base/bytes.js';
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import type { Extent } from '../../block/extent.js';
import { countPhysicalExtents, storageRanges } from '../../io/file-extents.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { transfer } from '../../offload/transfer-session.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import { NOTHING_MOVED } from '../bytes-moved.js';
import type { Host, ProgressSink } from '../host.js';
import { fileAsTarget } from '../rearrange/mover.js';
import { type MovingOptions, sessionFor } from '../session.js';

export interface HostLayoutOptions extends Pick<MovingOptions, 'rate' | 'signal'> {
  progress?: ProgressSink;
}

export interface HostLayout {
  /** The file was laid out anew. */
  replaced: boolean;
  /** Why not. */
  reason?: string;
  /** Extents on the host afterwards. */
  extents: number;
  bytes: BytesMoved;
}

const PIECE = 64 * MiB;

/**
 * @throws UNSUPPORTED for devices, and where the file system does not say how a file lies
 */
export function assertHasHostLayout(file: RandomAccessFile): void {
  const { path, kind } = file;
  const refuse = (message: string, hint: string): never => {
    throw new VhdkitError('UNSUPPORTED', message, { operation: 'defragment', context: { path }, hint });
  };
  if (kind !== 'file')
    refuse(`${path} is no file: nothing scatters it`, 'Leave --host away for block devices.');
  if (countPhysicalExtents(file) === undefined) {
    refuse(
      `The file system of ${path} does not say how files lie on it`,
      'Use the tools of the file system, or leave --host away.',
    );
  }
}

/** What is stored in the file, in pieces that bound the wait for cancellation. */
async function* written(file: RandomAccessFile): AsyncGenerator<Extent> {
  const size = file.size();
  for (let run = file.nextData(0, size); run; run = file.nextData(run.offset + run.length, size)) {
    const end = run.offset + run.length;
    for (let offset = run.offset; offset < end; offset += PIECE)
      yield { state: 'data', offset, length: Math.min(PIECE, end - offset), file, fileOffset: offset };
  }
}

/** Gives the new file storage where the old one has some; answers the bytes. */
async function reserve(
  file: RandomAccessFile,
  fresh: RandomAccessFile,
  signal?: AbortSignal,
): Promise<number> {
  let total = 0;
  await fresh.truncate(file.size());
  for (const { offset, length } of storageRanges(file)) {
    throwIfAborted(signal, 'defragment');
    await fresh.allocate?.(offset, length);
    total += length;
  }
  return total;
}

/**
 * @param file complete and durable; nobody changes it meanwhile
 * @throws UNSUPPORTED (see `assertHasHostLayout`; the file has other names), NO_SPACE, CANCELLED, IO_FAILED
 */
export async function layOutAnew(
  host: Host,
  file: RandomAccessFile,
  options: HostLayoutOptions,
): Promise<HostLayout> {
  assertHasHostLayout(file);
  const before = countPhysicalExtents(file) ?? 0;
  const stay = (reason: string): HostLayout => ({
    replaced: false,
    reason,
    extents: before,
    bytes: NOTHING_MOVED,
  });
  if (before <= 1) return stay('the file is in one piece');
  const { signal, rate, progress } = options;
  const pending = await host.fileSystem.createPending(file.path, { overwrite: true, like: true });
  try {
    const total = await reserve(file, pending.file, signal);
    const expected = countPhysicalExtents(pending.file) ?? before;
    if (expected >= before) {
      await pending.discard();
      return stay(noBetter(expected));
    }
    const bytes = await transfer(written(file), fileAsTarget(pending.file), {
      ...sessionFor(host, {
        provider: 'buffered',
        zeros: 'holes',
        ...(signal ? { signal } : {}),
        ...(rate === undefined ? {} : { rate }),
      }),
      onProgress: (done) => progress?.update(Math.min(done, total), total),
    });
    await pending.file.flush();
    const extents = countPhysicalExtents(pending.file) ?? before;
    if (extents < before) await pending.publish();
    else await pending.discard();
    return extents < before ? { replaced: true, extents, bytes } : { ...stay(noBetter(extents)), bytes };
  } catch (error) {
    await pending.discard();
    throw error;
  }
}

function noBetter(extents: number): string {
  return `the file system would give a new one ${extents} extents`;
}

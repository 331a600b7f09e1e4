/**
 * Copy-and-write (US 9,405,709): keeps what a range holds and overwrites part of it, as one operation.
 *
 * `size` bytes of the source are made to appear in the target by the cheapest provider, the copy is made
 * durable, and only then the buffer goes over `bufferOffset` of the source's range. So the old bytes never
 * come into this process where the storage shares extents or the kernel copies: of a 4 KiB write into a
 * chunk of 1 MiB, 4 KiB pass through it. Short ranges are copied by the kernel where overwriting what is shared costs
 * more than that.
 *
 * Invariants: the source is not touched before the copy is complete and `preserve` has returned; when copying
 * or preserving fails, the source is as it was, and `CopyFailure` says so. What the target's range holds then
 * is arbitrary. A caller that must not have the source change meanwhile holds others off.
 */

import type { Clock } from '../base/clock.js';
import { throwIfAborted } from '../base/errors.js';
import type { RandomSource } from '../base/random.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import { BufferPool } from './buffer-pool.js';
import { Ladder } from './ladder.js';
import type { CopyStep, OffloadProvider, ProviderId } from './offload-provider.js';
import { standardProviders } from './provider-set.js';
import { TokenManager } from './token-manager.js';
import type { ProviderChoice } from './transfer-types.js';

/** A place in a file; how long it is says the request. */
export interface FilePlace {
  file: RandomAccessFile;
  fileOffset: number;
}

export interface CopyAndWriteRequest {
  /** What is kept, and then overwritten in part. */
  source: FilePlace;
  /** Where it is kept. */
  target: FilePlace;
  /** Bytes that are kept. */
  size: number;
  /** What is written; an empty one keeps the range and writes nothing. */
  buffer: Uint8Array;
  /** Where in the range: `bufferOffset + buffer.length <= size`. */
  bufferOffset: number;
  /** Makes the copy durable, and known to whoever looks for it. Default: the target is flushed. */
  preserve?: () => Promise<void>;
  /** Puts the buffer into the source; default: into its file. For sources that are devices with a state of their own. */
  overwrite?: (buffer: Uint8Array) => Promise<void>;
  signal?: AbortSignal;
}

/** Bytes kept, by how they were copied, and bytes that passed through this process in all. */
export interface CopyTally {
  shared: number;
  kernelCopied: number;
  buffered: number;
  /** Holes, which are kept without copying. */
  zeroed: number;
  /** Read or written by this process: buffers, and twice whatever was copied by reading and writing. */
  throughProcess: number;
}

interface CopyManner {
  /** The source is overwritten afterwards. */
  isOverwritten: boolean;
  signal: AbortSignal | undefined;
}

/** The range could not be kept; the source is untouched. The reason is the `cause`. */
export class CopyFailure extends Error {
  constructor(cause: unknown) {
    super('the range could not be kept', { cause });
    this.name = 'CopyFailure';
  }
}

export interface CopyAndWriterOptions {
  clock: Clock;
  random: RandomSource;
  provider?: ProviderChoice;
  /** Instead of the usual ones. */
  providers?: readonly OffloadProvider[];
}

/** Buffers for copies that nothing else can do: 4 MiB. */
const BUFFER_SIZE = 1024 * 1024;
const BUFFER_COUNT = 4;

export class CopyAndWriter {
  readonly tally: CopyTally = { shared: 0, kernelCopied: 0, buffered: 0, zeroed: 0, throughProcess: 0 };
  readonly #ladder: Ladder;

  constructor(options: CopyAndWriterOptions) {
    const manager = new TokenManager({ clock: options.clock, random: options.random });
    const providers =
      options.providers ?? standardProviders(manager, new BufferPool(BUFFER_SIZE, BUFFER_COUNT));
    this.#ladder = new Ladder(providers, options.provider ?? 'auto');
  }

  /**
   * @throws CopyFailure (source untouched), else what writing the buffer throws
   */
  async copyAndWrite(request: CopyAndWriteRequest): Promise<void> {
    const { source, target, size, buffer, bufferOffset, preserve, overwrite } = request;
    try {
      await this.#copy(source, target, size, { isOverwritten: true, signal: request.signal });
      await (preserve ? preserve() : target.file.flush());
    } catch (error) {
      throw new CopyFailure(error);
    }
    if (buffer.length === 0) return;
    await (overwrite ? overwrite(buffer) : source.file.write(buffer, source.fileOffset + bufferOffset));
    this.tally.throughProcess += buffer.length;
  }

  /**
   * Makes a range appear elsewhere, by the cheapest means. Not durable. Past the source's end there are zeros.
   * @throws NO_SPACE, IO_FAILED, READ_ONLY, OFFLOAD_UNSUPPORTED, CANCELLED
   */
  async copy(source: FilePlace, target: FilePlace, size: number, signal?: AbortSignal): Promise<void> {
    await this.#copy(source, target, size, { isOverwritten: false, signal });
  }

  async #copy(source: FilePlace, target: FilePlace, size: number, how: CopyManner): Promise<void> {
    for (let at = 0; at < size; ) {
      throwIfAborted(how.signal, 'copy');
      const data = source.file.nextData(source.fileOffset + at, source.fileOffset + size);
      const start = data ? data.offset - source.fileOffset : size;
      if (start > at) {
        await target.file.zero(target.fileOffset + at, start - at);
        this.tally.zeroed += start - at;
      }
      if (data) await this.#copyData(source, target, start, start + data.length, how);
      at = data ? start + data.length : size;
    }
  }

  async #copyData(
    source: FilePlace,
    target: FilePlace,
    start: number,
    end: number,
    { isOverwritten, signal }: CopyManner,
  ): Promise<void> {
    const apart = isOverwritten && this.#isBetterCopied(source.file, target.file, end - start);
    for (let at = start; at < end; ) {
      const step: CopyStep = {
        source: source.file,
        sourceOffset: source.fileOffset + at,
        target: target.file,
        targetOffset: target.fileOffset + at,
        length: end - at,
        ...(apart ? { apart } : {}),
        ...(signal ? { signal } : {}),
      };
      at += await this.#step(step);
    }
  }

  /** Whether sharing the range would make overwriting it dear, and the kernel can copy it. */
  #isBetterCopied(source: RandomAccessFile, target: RandomAccessFile, length: number): boolean {
    const { dearToOverwrite = 0 } = this.#ladder.sharing(source, target)?.capabilities ?? {};
    if (length > dearToOverwrite) return false;
    return this.#ladder.rungs(source, target).some(({ provider }) => provider.id === 'kernel');
  }

  /** As much as one provider does at once: the cheapest that can. */
  async #step(step: CopyStep): Promise<number> {
    const { source, target } = step;
    for (const { provider, capabilities } of this.#ladder.rungs(source, target)) {
      if (!provider.copyStep || (step.apart && provider.id === 'reflink')) continue;
      const result = await provider.copyStep({
        ...step,
        length: Math.min(step.length, capabilities.maxLength),
      });
      if (result.status === 'done') {
        this.#count(provider.id, result.length);
        return result.length;
      }
      // A range off the file system's blocks is nobody's fault; the next one may be on them.
      const { alignment } = capabilities;
      const places = [step.sourceOffset, step.targetOffset, step.length];
      if (places.every((place) => place % alignment === 0))
        this.#ladder.fail(source, target, provider, result);
    }
    throw this.#ladder.unsupported(source, target);
  }

  #count(id: ProviderId, length: number): void {
    if (id === 'reflink') this.tally.shared += length;
    else if (id === 'kernel') this.tally.kernelCopied += length;
    else {
      this.tally.buffered += length;
      this.tally.throughProcess += 2 * length;
    }
  }
}

/**
 * A disk as a new image, written front to back: for pipes.
 *
 * The image is laid out first, in a file that exists only in memory and gets no payload: every stored range
 * of the source gets its place, in disk order, and the tables are made. Then the file is given out in
 * order: payload from the source, everything else from the layout, zeros where there is neither.
 *
 * Invariants: blocks are placed in disk order, so one walk over the source meets the places in file order;
 * a source that changed meanwhile is an error. Held in memory: the tables (four bytes for each block of a
 * VHD, eight for a VHDX), bitmaps once for all blocks, a few buffers. Places are asked for anew, not held.
 */
import { assert } from '../../base/assert.js';
import { KiB, MiB } from '../../base/bytes.js';
import { throwIfAborted } from '../../base/errors.js';
import { nonZeroRuns } from '../../base/zeros.js';
import { type DataExtent, walkExtents } from '../../block/extent.js';
import type { Chain } from '../../formats/chain.js';
import type { DiskImage, FormatId } from '../../formats/disk-image.js';
import { createImage } from '../../formats/registry.js';
import { LayoutFile } from '../../io/stream-layout-file.js';
import { Gatherer, type Part } from '../../offload/gather.js';
import { type DataPiece, refine } from '../../offload/pieces.js';
import { HoleFinder, Sources } from '../../offload/sources.js';
import { TokenManager } from '../../offload/token-manager.js';
import type { Host } from '../host.js';
import { examine } from './plan.js';
import { planTarget } from './target-plan.js';
import type { ByteSink, ConvertOptions, ConvertResult } from './types.js';

/** What messages call the stream that is written. */
export const OUTPUT_NAME = 'stdout';

/** Bytes given out at once. */
const WINDOW = MiB;
/** Longest range placed or located at once: bounds how long a signal goes unnoticed. */
const PLANNED_AT_ONCE = 64 * MiB;
/** Granularity in which payload is searched for zeros, as everywhere. */
const ZERO_CHUNK = 64 * KiB;
const ZEROS = new Uint8Array(WINDOW);

/** A part of the file that comes from the source. */
interface Payload {
  fileOffset: number;
  length: number;
  piece: DataPiece;
  /** Within the source's file. */
  sourceOffset: number;
}

/** A range of the file, and what of it comes from the source. */
interface Window {
  offset: number;
  length: number;
  parts: Part[];
}

/**
 * Writes the chain's disk to `output` as a new image.
 * @throws IMAGE_CORRUPT (the source), INVALID_ARGUMENT, TARGET_TOO_SMALL, SOURCE_CHANGED, CANCELLED, IO_FAILED,
 *   and what the sink throws
 */
export async function convertToStream(
  host: Host,
  source: Chain,
  to: FormatId,
  options: ConvertOptions & { output: ByteSink; started: number },
): Promise<ConvertResult> {
  const warnings = await examine(source);
  const { sectors, made, warnings: remarks } = await planTarget(host, source, to, options);
  const { chain, reblocked } = sectors;
  const layout = new LayoutFile(OUTPUT_NAME);
  const image = await createImage(layout, to, made);
  const manager = new TokenManager({ clock: host.clock, random: host.random });
  const stream = new Stream({ chain, image, layout, manager, options });
  try {
    const buffered = await stream.plan();
    await image.flush();
    if (!options.dryRun) await stream.write(options.output);
    return {
      source: options.source,
      target: options.target,
      from: chain.top.format,
      to,
      type: image.type,
      virtualSize: image.virtualSize,
      fileSize: layout.size(),
      bytes: { shared: 0, kernelCopied: 0, buffered, zeroed: chain.virtualSize - buffered },
      elapsedMs: host.clock.now() - options.started,
      dryRun: options.dryRun ?? false,
      warnings: [...warnings, ...remarks, ...image.warnings],
      ...(reblocked ? { reblocked } : {}),
      ...(options.profile ? { profile: options.profile } : {}),
    };
  } finally {
    await stream.close();
  }
}

interface StreamParts {
  chain: Chain;
  image: DiskImage;
  layout: LayoutFile;
  manager: TokenManager;
  options: ConvertOptions;
}

class Stream {
  readonly #parts: StreamParts;
  readonly #sources: Sources;
  readonly #gatherer: Gatherer;

  constructor(parts: StreamParts) {
    this.#parts = parts;
    this.#sources = new Sources(parts.manager, parts.layout);
    this.#gatherer = new Gatherer(parts.manager);
  }

  /** Gives every stored range its place. Returns how many bytes of the disk are stored. */
  async plan(): Promise<number> {
    const { image, options } = this.#parts;
    const buffer = options.zeros === 'scan' && image.type !== 'fixed' ? new Uint8Array(WINDOW) : undefined;
    let copied = 0;
    for await (const piece of this.#pieces()) {
      if (buffer) {
        copied += await this.#placeNonZero(piece, buffer);
        continue;
      }
      copied += piece.length;
      if (image.type !== 'fixed') await this.#place(piece.offset, piece.length);
    }
    return copied;
  }

  /** Gives the file out in order. */
  async write(sink: ByteSink): Promise<void> {
    const { layout, options } = this.#parts;
    const total = layout.size();
    const buffers = [new Uint8Array(WINDOW), new Uint8Array(WINDOW)];
    let turn = 0;
    let done = 0;
    let ready: Promise<Uint8Array> | undefined;
    const give = async (loading: Promise<Uint8Array>): Promise<void> => {
      const bytes = await loading;
      throwIfAborted(options.signal, 'write stream');
      await sink.write(bytes);
      done += bytes.length;
      options.progress?.update(done, total);
    };
    try {
      for await (const window of this.#windows(total)) {
        const loading = this.#load(window, buffers[turn] as Uint8Array);
        // Not awaited yet: a failure must not count as unhandled before its turn comes.
        loading.catch(() => undefined);
        turn = 1 - turn;
        const before = ready;
        ready = loading;
        if (before) await give(before);
      }
      if (ready) await give(ready);
    } finally {
      await ready?.catch(() => undefined);
    }
    await this.#sources.verifyUnchanged();
  }

  async close(): Promise<void> {
    await this.#sources.release();
  }

  /** The stored ranges of the source, in disk order, none longer than what is planned at once. */
  async *#pieces(): AsyncGenerator<DataPiece> {
    const { chain, options } = this.#parts;
    const extents = walkExtents(chain, { offset: 0, length: chain.virtualSize }, PLANNED_AT_ONCE);
    const resolve = async ({ file }: DataExtent) => ({
      source: await this.#sources.of(file),
      policy: 'holes' as const,
    });
    for await (const piece of refine(extents, new HoleFinder(), resolve)) {
      throwIfAborted(options.signal, 'lay out image');
      if (piece.state === 'data') yield piece;
    }
  }

  async #place(offset: number, length: number): Promise<void> {
    const prepared = await this.#parts.image.prepareWrite(offset, length);
    await prepared.commit();
  }

  /**
   * The same for what holds other bytes than zero, in chunks counted from the start of the disk. Returns how
   * many bytes that are.
   */
  async #placeNonZero(piece: DataPiece, buffer: Uint8Array): Promise<number> {
    const end = piece.offset + piece.length;
    let placed = 0;
    for (let at = piece.offset; at < end; ) {
      throwIfAborted(this.#parts.options.signal, 'lay out image');
      // Up to where chunks begin, then many at once.
      const length = Math.min(end - at, at % ZERO_CHUNK === 0 ? WINDOW : ZERO_CHUNK - (at % ZERO_CHUNK));
      const bytes = buffer.subarray(0, length);
      const sourceOffset = piece.sourceOffset + (at - piece.offset);
      await this.#gatherer.fill(bytes, [{ at: 0, length, source: piece.source, sourceOffset }]);
      for (const run of nonZeroRuns(bytes, ZERO_CHUNK)) {
        await this.#place(at + run.start, run.end - run.start);
        placed += run.end - run.start;
      }
      at += length;
    }
    return placed;
  }

  /** Where the source's bytes are in the file, in file order. */
  async *#payload(): AsyncGenerator<Payload> {
    const { image, layout } = this.#parts;
    let position = 0;
    for await (const piece of this.#pieces()) {
      const { offset, length, sourceOffset } = piece;
      // Without blocks the disk's offsets are the file's.
      if (image.blockSize === undefined) {
        yield { fileOffset: offset, length, piece, sourceOffset };
        continue;
      }
      for (const extent of await image.locate(offset, length)) {
        // Found to be zero when it was looked at.
        if (extent.state !== 'data') continue;
        assert(extent.file === layout && extent.fileOffset >= position, 'blocks are placed in disk order');
        position = extent.fileOffset + extent.length;
        yield {
          fileOffset: extent.fileOffset,
          length: extent.length,
          piece,
          sourceOffset: sourceOffset + (extent.offset - offset),
        };
      }
    }
  }

  /** The file in windows of equal size. */
  async *#windows(total: number): AsyncGenerator<Window> {
    let window: Window = { offset: 0, length: Math.min(WINDOW, total), parts: [] };
    const next = (): Window => {
      const offset = window.offset + window.length;
      return { offset, length: Math.min(WINDOW, total - offset), parts: [] };
    };
    for await (const { fileOffset, length, piece, sourceOffset } of this.#payload()) {
      for (let done = 0; done < length; ) {
        const at = fileOffset + done;
        while (at >= window.offset + window.length) {
          yield window;
          window = next();
        }
        const count = Math.min(length - done, window.offset + window.length - at);
        const part = { at: at - window.offset, length: count, source: piece.source };
        window.parts.push({ ...part, sourceOffset: sourceOffset + done });
        done += count;
      }
    }
    for (; window.length > 0; window = next()) yield window;
  }

  async #load(window: Window, buffer: Uint8Array): Promise<Uint8Array> {
    const { layout } = this.#parts;
    const { offset, length, parts } = window;
    const hasTables = layout.nextData(offset, offset + length) !== undefined;
    if (!hasTables && parts.length === 0) return ZEROS.subarray(0, length);
    const bytes = buffer.subarray(0, length);
    const [only] = parts;
    if (hasTables || only?.length !== length) await layout.read(bytes, offset);
    await this.#gatherer.fill(bytes, parts);
    return bytes;
  }
}

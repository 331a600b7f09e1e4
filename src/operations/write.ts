/**
 * `write`: bytes of a stream into a disk, through the top of its chain.
 *
 * Invariants: whole sectors are written, what the stream leaves of the first and last one is kept; at every
 * instant each sector shows what it was, or what was being written to it. What is known to be wrong is
 * refused before anything is changed; whatever else stops the work leaves what was written up to then, and
 * the error says how much that is.
 *
 * Not here: which descriptor the bytes come from.
 */
import { dirname } from 'node:path';
import { KiB } from '../base/bytes.js';
import { isVhdkitError, throwIfAborted, VhdkitError } from '../base/errors.js';
import { nonZeroRuns } from '../base/zeros.js';
import { putBytes } from '../block/put-bytes.js';
import type { FormatId, ImageType } from '../formats/disk-image.js';
import type { EditableImage } from '../formats/editable-image.js';
import { assertNoChildren, findChildren } from './children.js';
import { type EditableChain, openEditableChain } from './editable-chain.js';
import type { Host, ProgressSink } from './host.js';
import { streamWindows, type Window, wholeSectors } from './write/windows.js';

/** What messages call the stream. */
const INPUT = 'stdin';
/** Granularity in which the stream is searched for zeros, as in conversions. */
const ZERO_CHUNK = 64 * KiB;
/** Shorter ranges are left to the final flush. */
const LONG_WRITE = 256 * KiB;

export interface WriteOptions {
  path: string;
  format?: FormatId;
  /** Where on the disk the stream goes. Bytes; default 0. */
  offset?: number;
  /** Bytes to take from the stream, which must have as many; default: all it has. */
  length?: number;
  /** Chunks need to be valid only until the next step. */
  input: AsyncIterable<Uint8Array>;
  /** How many bytes the stream has, where that is known beforehand. */
  inputLength?: number | undefined;
  /**
   * `data`: zeros are stored like all other bytes. `scan`: 64 KiB chunks of zeros are made zeros with as
   * little storage as the format allows. Default `data`.
   */
  zeros?: 'data' | 'scan';
  /** Write although other images depend on this one. */
  force?: boolean;
  /** Refuse what would be refused, read and change nothing. */
  dryRun?: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface WriteResult {
  path: string;
  format: FormatId;
  type: ImageType;
  offset: number;
  /** Bytes of the stream that are on the disk now; null in a dry run when nobody knows. */
  length: number | null;
  virtualSize: number;
  fileSize: number;
  elapsedMs: number;
  dryRun: boolean;
}

/**
 * @throws OUT_OF_RANGE, INVALID_ARGUMENT, IN_USE (held by another process, or a parent of others), IO_FAILED
 *   (also: the stream is empty or too short), NO_SPACE, CANCELLED, and what opening throws
 */
export async function write(host: Host, options: WriteOptions): Promise<WriteResult> {
  const started = host.clock.now();
  const { path, format, offset = 0, dryRun = false } = options;
  const opened = await openEditableChain(host, path, format ? { format } : {});
  try {
    const { top } = opened;
    const expected = expectedLength(options);
    assertFits(top, offset, expected);
    if (!options.force) {
      const hint = 'Write to a child instead, or use --force if the children are to be given up.';
      assertNoChildren(top, await findChildren(host, top, await foldersOf(host, path)), hint);
    }
    const length = dryRun ? (expected ?? null) : await new Pour(opened, offset, expected, options).run();
    return {
      path,
      format: top.format,
      type: top.type,
      offset,
      length,
      virtualSize: top.virtualSize,
      fileSize: top.file.size(),
      elapsedMs: host.clock.now() - started,
      dryRun,
    };
  } finally {
    await opened.close();
  }
}

/** Where children are looked for: beside the name given, and beside the file that it leads to. */
async function foldersOf({ fileSystem }: Host, path: string): Promise<string[]> {
  const real = (await fileSystem.realPath?.(path)) ?? path;
  return [...new Set([dirname(path), dirname(real)])];
}

/** Bytes that will be written, where that is known. @throws INVALID_ARGUMENT when the stream has fewer */
function expectedLength({ path, length, inputLength }: WriteOptions): number | undefined {
  if (length === undefined) return inputLength;
  if (length === 0) {
    throw new VhdkitError('INVALID_ARGUMENT', 'There is nothing to write: --length is 0', {
      operation: 'write disk',
      context: { path, length },
      hint: 'Leave --length out to write all of stdin.',
    });
  }
  if (inputLength === undefined || inputLength >= length) return length;
  throw new VhdkitError(
    'INVALID_ARGUMENT',
    `${INPUT} has ${inputLength} bytes, but --length asks for ${length}`,
    {
      operation: 'write disk',
      context: { path, length, available: inputLength },
      hint: 'Nothing was written. Correct --length, or leave it out to write all there is.',
    },
  );
}

/** @throws OUT_OF_RANGE */
function assertFits(top: EditableImage, offset: number, expected: number | undefined): void {
  const { virtualSize } = top;
  const { path } = top.file;
  if (offset < virtualSize && offset + (expected ?? 0) <= virtualSize) return;
  const what =
    offset >= virtualSize
      ? `offset ${offset} is behind the end of the disk, which has ${virtualSize} bytes`
      : `${expected} bytes from offset ${offset} on do not fit on the disk of ${virtualSize} bytes`;
  throw new VhdkitError('OUT_OF_RANGE', `${path}: ${what}`, {
    operation: 'write disk',
    context: { path, offset, virtualSize, ...(expected === undefined ? {} : { length: expected }) },
    hint: 'Nothing was written. Write less (--length), elsewhere (--offset), or enlarge the disk first.',
  });
}

/** One stream on its way to the disk. */
class Pour {
  readonly #opened: EditableChain;
  readonly #offset: number;
  readonly #expected: number | undefined;
  readonly #options: WriteOptions;
  /** Bytes of the stream that are in place. */
  #written = 0;

  constructor(opened: EditableChain, offset: number, expected: number | undefined, options: WriteOptions) {
    this.#opened = opened;
    this.#offset = offset;
    this.#expected = expected;
    this.#options = options;
  }

  /** Answers the bytes written, which are durable. */
  async run(): Promise<number> {
    const { top } = this.#opened;
    try {
      const isCut = await this.#pour();
      throwIfAborted(this.#options.signal, 'write disk');
      this.#assertComplete(isCut);
    } catch (error) {
      // What was written stays, whatever happened: it is told below, so it must be there.
      if (this.#written > 0) await top.flush();
      throw this.#withExtent(error);
    }
    await top.flush();
    return this.#written;
  }

  /** Answers whether the stream had more than there was room for. */
  async #pour(): Promise<boolean> {
    const { input, length, signal } = this.#options;
    const { virtualSize } = this.#opened.top;
    const end = length === undefined ? virtualSize : this.#offset + length;
    const windows = streamWindows(input, this.#offset, end);
    // While one window is written, the next one is read.
    let writing: Promise<void> = Promise.resolve();
    try {
      for (;;) {
        const step = await windows.next();
        await writing;
        if (step.done) return step.value;
        throwIfAborted(signal, 'write disk');
        writing = this.#put(step.value);
        // Awaited above or below; until then a failure is not unhandled.
        writing.catch(() => undefined);
        // The last bytes asked for: the stream may go on, but nobody waits for it.
        if (length !== undefined && step.value.offset + step.value.bytes.length === end) return false;
      }
    } finally {
      await writing.catch(() => undefined);
      await windows.return(false);
    }
  }

  async #put(window: Window): Promise<void> {
    const { top, chain } = this.#opened;
    const whole = await wholeSectors(chain, window, top.logicalSectorSize);
    if (this.#options.zeros === 'scan') await putSparsely(top, whole);
    else await putSectors(top, whole.offset, whole.bytes);
    this.#written += window.bytes.length;
    if (this.#expected !== undefined) this.#options.progress?.update(this.#written, this.#expected);
  }

  #assertComplete(isCut: boolean): void {
    const { path, length } = this.#options;
    const context = { path, offset: this.#offset, length: this.#written };
    const operation = 'write disk';
    if (isCut) {
      throw new VhdkitError('OUT_OF_RANGE', `${INPUT} goes on behind the end of the disk`, {
        operation,
        context,
        hint: 'Everything that fits was written. Use a larger disk, or --length for a part of the stream.',
      });
    }
    if (this.#written === 0) {
      throw new VhdkitError('IO_FAILED', `${INPUT} gave no bytes, nothing was written`, {
        operation,
        context,
        hint: 'Check the command in front of the pipe.',
      });
    }
    if (length !== undefined && this.#written < length) {
      throw new VhdkitError('IO_FAILED', `${INPUT} ended before the ${length} bytes of --length`, {
        operation,
        context,
        hint: 'Whatever writes it stopped early: check it, or correct --length.',
      });
    }
  }

  /** The same error, saying how much is on the disk now. */
  #withExtent(error: unknown): unknown {
    if (this.#written === 0 || !isVhdkitError(error)) return error;
    const { path } = this.#options;
    const { code, message, context, cause, operation = 'write disk' } = error;
    const sound = 'The image is sound, the rest of it is as it was. Write again to complete it.';
    const hint = code === 'CANCELLED' ? sound : error.hint;
    const extent = `${this.#written} bytes were written from offset ${this.#offset} on`;
    return new VhdkitError(code, `${message}; ${extent}`, {
      operation,
      context: { ...context, path, offset: this.#offset, length: this.#written },
      cause: cause ?? error,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/** Puts bytes of whole sectors onto the disk. */
async function putSectors(image: EditableImage, offset: number, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return;
  for (const { file, fileOffset, length } of await putBytes(image, offset, bytes)) {
    if (length >= LONG_WRITE) await file.writeBehind?.(fileOffset, length);
  }
}

/** The same, with chunks of zeros left to the format. */
async function putSparsely(image: EditableImage, { offset, bytes }: Window): Promise<void> {
  let done = 0;
  for (const { start, end } of nonZeroRuns(bytes, ZERO_CHUNK)) {
    if (start > done) await image.zero(offset + done, start - done);
    await putSectors(image, offset + start, bytes.subarray(start, end));
    done = end;
  }
  if (done < bytes.length) await image.zero(offset + done, bytes.length - done);
}

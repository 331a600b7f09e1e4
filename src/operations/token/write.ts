/**
 * `token write`: makes what tokens stand for appear on a disk.
 *
 * Invariants: all tokens are resolved before anything is written. Zeros first, they may free the space that
 * data needs. The tokens are verified once more when everything is in place: a source that changed meanwhile
 * is an error, and says that the range holds a mixture.
 *
 * After a revocation no other write begins; one that has begun finishes, or stops and says that the range holds a
 * part, as it was asked to.
 */
import { dirname } from 'node:path';
import { roundDown, roundUp } from '../../base/bytes.js';
import { throwIfAborted, VhdkitError } from '../../base/errors.js';
import type { DataExtent } from '../../block/extent.js';
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { sameFile } from '../../io/file-system.js';
import { forecast, transfer } from '../../offload/transfer-session.js';
import type { BytesMoved, TransferTarget } from '../../offload/transfer-types.js';
import { assertNoChildren, findChildren } from '../children.js';
import { openEditableChain } from '../editable-chain.js';
import type { Host, ProgressSink } from '../host.js';
import { WholeFiles } from '../merge/whole-file.js';
import { type MovingOptions, sessionFor } from '../session.js';
import { type AidOptions, openAidedContent } from './aided-content.js';
import type { Selection, TokenContent, TokenExtent } from './content.js';
import { type OpenTokens, type StoreChoice, withTokens } from './store.js';
import type { Verified } from './verify.js';
import { type OnRevoke, stoppedBy, watchTokens } from './watch.js';

export interface TokenWriteOptions extends MovingOptions, Selection, AidOptions {
  /** The token file. */
  tokens: string;
  /** The image or device to write to. */
  target: string;
  format?: FormatId;
  /** Where on the target's disk the data goes. Bytes, whole sectors; default 0. */
  offset?: number;
  /** Write although other images depend on the target. */
  force?: boolean;
  /** What to do when a token is revoked while this goes on. Default: finish. */
  onRevoke?: OnRevoke;
  dryRun?: boolean;
  store?: StoreChoice;
  progress?: ProgressSink;
}

export interface TokenWriteResult {
  tokens: string;
  target: string;
  format: FormatId;
  type: ImageType;
  offset: number;
  length: number;
  virtualSize: number;
  fileSize: number;
  bytes: BytesMoved;
  /** Of these, what was found by its hash in other images; null where none were named. */
  reused: number | null;
  /** Null where nothing was compared: there are no checksums, or it was not wanted. */
  verified: Verified | null;
  elapsedMs: number;
  dryRun: boolean;
}

/**
 * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, PERMISSION_DENIED, OUT_OF_RANGE, INVALID_ARGUMENT, IN_USE,
 *   OFFLOAD_UNSUPPORTED, NO_SPACE, VERIFY_FAILED, CANCELLED, TOKEN_STORE_FAILED, and what opening throws
 */
export async function writeToken(host: Host, options: TokenWriteOptions): Promise<TokenWriteResult> {
  const started = host.clock.now();
  const { target, format, tokens: path, offset = 0, dryRun = false } = options;
  return withTokens(host, options.store, async (tokens) => {
    const aided = await openAidedContent(host, tokens, options);
    const { content, progress = options.progress } = aided;
    const telling = { ...options, ...(progress ? { progress } : {}) };
    try {
      const access = { tokens: tokens.store, ...(format ? { format } : {}) };
      const opened = await openEditableChain(host, target, access);
      try {
        const { top } = opened;
        await judge(host, top, content, options);
        const bytes = await watched(host, tokens, options, (signal) =>
          new Write(host, top, content, { ...telling, signal }).run(),
        );
        const verified = await aided.verify(top.format);
        return {
          tokens: path,
          target,
          format: top.format,
          type: top.type,
          offset,
          length: content.length,
          virtualSize: top.virtualSize,
          fileSize: top.file.size(),
          bytes,
          reused: aided.reused(),
          verified,
          elapsedMs: host.clock.now() - started,
          dryRun,
        };
      } finally {
        await opened.close();
      }
    } finally {
      await aided.close();
    }
  });
}

/** Writes while the store is told that the tokens are in use, and until one of them ends if so wanted. */
async function watched<T>(
  host: Host,
  { manager, store }: OpenTokens,
  { target, onRevoke, signal }: TokenWriteOptions,
  write: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const watch = watchTokens(host, manager, { onRevoke, signal });
  try {
    return await write(watch.signal);
  } catch (error) {
    if (!watch.ended || signal?.aborted) throw error;
    await store.countRefusal(watch.ended).catch(() => undefined);
    throw stoppedBy(watch.ended, target, error);
  } finally {
    await watch.stop();
  }
}

/** Refuses what is known to be wrong before anything is changed. */
async function judge(
  host: Host,
  top: EditableImage,
  content: TokenContent,
  { target, offset = 0, force }: TokenWriteOptions,
): Promise<void> {
  const { virtualSize, logicalSectorSize } = top;
  const end = offset + content.length;
  if (end > virtualSize) {
    throw new VhdkitError(
      'OUT_OF_RANGE',
      `${target}: ${content.length} bytes from offset ${offset} on do not fit on the disk of ${virtualSize} bytes`,
      {
        operation: 'write tokens',
        context: { path: target, offset, length: content.length, virtualSize },
        hint: 'Nothing was written. Write less (--length), elsewhere (--offset), or enlarge the disk first.',
      },
    );
  }
  assertSectors(top, content.extents, offset, target, logicalSectorSize);
  await assertOtherFiles(host, target, content);
  if (force) return;
  const real = (await host.fileSystem.realPath?.(target)) ?? target;
  const folders = [...new Set([dirname(target), dirname(real)])];
  const hint = 'Write to a child instead, or use --force if the children are to be given up.';
  assertNoChildren(top, await findChildren(host, top, folders), hint);
}

/** @throws INVALID_ARGUMENT when a piece does not begin and end with sectors of the target */
function assertSectors(
  { virtualSize }: EditableImage,
  extents: readonly TokenExtent[],
  offset: number,
  path: string,
  sectorSize: number,
): void {
  for (const extent of extents) {
    const start = offset + extent.offset;
    const end = start + extent.length;
    if (start % sectorSize === 0 && (end % sectorSize === 0 || end === virtualSize)) continue;
    throw new VhdkitError('INVALID_ARGUMENT', `${path} is written in whole sectors of ${sectorSize} bytes`, {
      operation: 'write tokens',
      context: { path, offset: start, length: extent.length, sectorSize },
      hint: 'Choose --offset, --token-offset and --length so that all pieces begin and end with sectors.',
    });
  }
}

/** @throws INVALID_ARGUMENT when the target would be written from itself */
async function assertOtherFiles(host: Host, target: string, { extents }: TokenContent): Promise<void> {
  const own = await host.fileSystem.identity(target);
  const files = new Set(extents.flatMap((extent) => (extent.state === 'data' ? [extent.file] : [])));
  for (const file of files) {
    const print = file.fingerprint();
    if (!own || !print || !sameFile(own, print)) continue;
    throw new VhdkitError(
      'INVALID_ARGUMENT',
      `${target} is what the token stands for: writing would change it`,
      {
        operation: 'write tokens',
        context: { path: target },
        hint: 'Read the token anew with --mode persistent.',
      },
    );
  }
}

class Write {
  readonly #host: Host;
  readonly #top: EditableImage;
  readonly #content: TokenContent;
  readonly #options: TokenWriteOptions;

  constructor(host: Host, top: EditableImage, content: TokenContent, options: TokenWriteOptions) {
    this.#host = host;
    this.#top = top;
    this.#content = content;
    this.#options = options;
  }

  async run(): Promise<BytesMoved> {
    const { dryRun, progress, signal } = this.#options;
    const session = sessionFor(this.#host, this.#options);
    const zeroed = await this.#zeros();
    const target = targetOf(this.#top);
    if (dryRun) return withZeros((await forecast(this.#data(), target, session)).bytes, zeroed);
    let wrote = zeroed > 0;
    try {
      const onProgress = (done: number): void => {
        wrote = true;
        progress?.update(zeroed + done, this.#content.length);
      };
      const moved = await transfer(this.#data(), target, { ...session, onProgress });
      throwIfAborted(signal, 'write tokens');
      await this.#content.verifyUnchanged();
      await this.#top.flush();
      return withZeros(moved, zeroed);
    } catch (error) {
      // What was written stays; it must not be lost half.
      if (wrote) await this.#top.flush().catch(() => undefined);
      throw mixed(error, this.#options.target);
    }
  }

  /** Makes zeros, unless this is a dry run. Answers how many bytes there are of them. */
  async #zeros(): Promise<number> {
    const { dryRun, signal } = this.#options;
    let count = 0;
    for (const { state, offset, length } of this.#runs()) {
      if (state !== 'zero') continue;
      throwIfAborted(signal, 'write tokens');
      count += length;
      if (!dryRun) await this.#top.zero(offset, length);
    }
    return count;
  }

  async *#data(): AsyncGenerator<DataExtent> {
    const files = new WholeFiles();
    for (const run of this.#runs()) {
      if (run.state === 'data') yield { ...run, file: files.of(run.file) };
    }
  }

  /** The content at its place on the target, holes of the files told apart where whole sectors lie in them. */
  *#runs(): Generator<TokenExtent> {
    const { offset = 0 } = this.#options;
    const { logicalSectorSize, virtualSize } = this.#top;
    for (const extent of this.#content.extents) {
      const placed = { ...extent, offset: extent.offset + offset };
      if (placed.state === 'zero') yield placed;
      else yield* withoutHoles(placed, logicalSectorSize, virtualSize);
    }
  }
}

function* withoutHoles(extent: DataExtent, sectorSize: number, virtualSize: number): Generator<TokenExtent> {
  const { file, fileOffset } = extent;
  const shift = extent.offset - fileOffset;
  const end = extent.offset + extent.length;
  const data = (from: number, to: number): DataExtent => ({
    state: 'data',
    offset: from,
    length: to - from,
    file,
    fileOffset: from - shift,
  });
  let open = extent.offset;
  for (let at = extent.offset; at < end; ) {
    const run = file.nextData(at - shift, end - shift);
    const start = run ? run.offset + shift : end;
    const zeroFrom = roundUp(at, sectorSize);
    const zeroTo = start === virtualSize ? start : roundDown(start, sectorSize);
    if (zeroTo > zeroFrom) {
      if (zeroFrom > open) yield data(open, zeroFrom);
      yield { state: 'zero', offset: zeroFrom, length: zeroTo - zeroFrom };
      open = zeroTo;
    }
    at = run ? start + run.length : end;
  }
  if (open < end) yield data(open, end);
}

/** In place, what a write does not reach stays what it was. */
function targetOf(image: EditableImage): TransferTarget {
  return {
    file: image.file,
    unwrittenIsZero: false,
    blockSize: image.blockSize,
    prepareWrite: (offset, length) => image.prepareWrite(offset, length),
  };
}

function withZeros(bytes: BytesMoved, zeroed: number): BytesMoved {
  return { ...bytes, zeroed: bytes.zeroed + zeroed };
}

/** A source that changed under way: says what that means for the target. */
function mixed(error: unknown, target: string): unknown {
  if (!(error instanceof VhdkitError) || error.code !== 'SOURCE_CHANGED') return error;
  const { message, context, operation = 'write tokens' } = error;
  return new VhdkitError('SOURCE_CHANGED', `${message}; ${target} holds a part of it`, {
    operation,
    context: { ...context, target },
    cause: error,
    hint: 'Read a fresh token and write again; one with --mode persistent keeps the data as it was.',
  });
}

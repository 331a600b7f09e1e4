/**
 * `convert --verify`: the finished image is read back and compared with its source, byte by byte, before
 * anything is published.
 *
 * A dynamic VHD is read by vhd-lib, which shares no code with the writer; a fixed VHD is read as what it
 * is, the disk followed by a footer; VHDX and raw by vhdkit's own readers. The file is opened anew, and
 * its pages are dropped from memory where the system can do that, so that what is compared is what the
 * storage holds. (Caches below the operating system are out of reach; tmpfs has nothing below.)
 *
 * Invariant: a verification that ends without an error has seen every byte of the target's disk equal to
 * the source's, and zeros where the target is larger; the SHA-256 is over those bytes.
 */
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { isZero } from '../../base/zeros.js';
import type { Extent, Locator } from '../../block/extent.js';
import type { DiskImage, FormatId } from '../../formats/disk-image.js';
import { openImage } from '../../formats/registry.js';
import type { FileSystem } from '../../io/file-system.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { nativeCalls } from '../../native/native.js';
import { type Content, contentOf } from '../content-stream.js';
import { ContentDigest } from '../hash.js';
import type { ProgressSink } from '../host.js';

const FOOTER_BYTES = 512;

export interface VerifyParts {
  fileSystem: FileSystem;
  source: Locator;
  /** Where the finished image is now, under whatever name, flushed. */
  path: string;
  /** What it will be called, for messages. */
  target: string;
  format: FormatId;
  /** Bytes the image's disk must have. */
  virtualSize: number;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface Verification {
  /** Of the target's disk, lower-case hex. */
  sha256: string;
  /** Whose code read the image. */
  reader: 'vhd-lib' | 'vhdkit';
  /** True when the file's pages were dropped from memory before it was read. */
  cacheDropped: boolean;
}

function failed(parts: VerifyParts, reason: string, offset?: number, cause?: unknown): VhdkitError {
  const context = { path: parts.target, ...(offset === undefined ? {} : { offset }) };
  return new VhdkitError('VERIFY_FAILED', `${parts.target} was not written correctly: ${reason}`, {
    operation: 'verify',
    context,
    hint: 'Do not use the result. Try again with --provider buffered; if that fails too, test the storage and the memory of this machine.',
    ...(cause === undefined ? {} : { cause }),
  });
}

function indexOfDifference(a: Uint8Array | undefined, b: Uint8Array | undefined, length: number): number {
  for (let index = 0; index < length; index += 1) if ((a?.[index] ?? 0) !== (b?.[index] ?? 0)) return index;
  return -1;
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (!a) return b === undefined || isZero(b);
  return b ? Buffer.compare(a, b) === 0 : isZero(a);
}

/** A stream of pieces out of which any length can be taken. */
class Cursor {
  readonly #pieces: AsyncGenerator<Content>;
  #piece: Content | undefined;
  #used = 0;

  constructor(pieces: AsyncGenerator<Content>) {
    this.#pieces = pieces;
  }

  /** Bytes left of the current piece; the next piece is fetched when there are none. 0: the end. */
  async left(): Promise<number> {
    while (!this.#piece || this.#used === this.#piece.length) {
      const step = await this.#pieces.next();
      if (step.done) return 0;
      this.#piece = step.value;
      this.#used = 0;
    }
    return this.#piece.length - this.#used;
  }

  /** The next bytes, at most what is left; undefined for zeros. */
  take(length: number): Uint8Array | undefined {
    const start = this.#used;
    this.#used += length;
    return this.#piece?.bytes?.subarray(start, this.#used);
  }

  close(): Promise<unknown> {
    return this.#pieces.return(undefined);
  }
}

/** The pieces, followed by zeros up to the size. */
async function* filledUp(pieces: AsyncGenerator<Content>, from: number, to: number): AsyncGenerator<Content> {
  yield* pieces;
  if (from < to) yield { offset: from, length: to - from };
}

/** Compares two disks of one size. Returns the digest, or throws with the first difference. */
async function compareContents(parts: VerifyParts, actual: AsyncGenerator<Content>): Promise<string> {
  const { source, virtualSize, signal, progress } = parts;
  const expectedPieces = filledUp(contentOf(source, signal), source.virtualSize, virtualSize);
  const [expected, found] = [new Cursor(expectedPieces), new Cursor(actual)];
  const digest = new ContentDigest();
  try {
    for (let at = 0; at < virtualSize; ) {
      const length = Math.min(await expected.left(), await found.left());
      if (length === 0) throw failed(parts, `it ends after ${at} of ${virtualSize} bytes`, at);
      const [a, b] = [expected.take(length), found.take(length)];
      if (!sameBytes(a, b)) {
        const offset = at + indexOfDifference(a, b, length);
        throw failed(parts, `it differs from the source at offset ${offset} of the disk`, offset);
      }
      digest.update(length, a);
      at += length;
      progress?.update(at, virtualSize);
    }
    return digest.finish();
  } finally {
    await expected.close();
    await found.close();
  }
}

/** A fixed VHD's file without its footer. */
function withoutFooter(file: RandomAccessFile): Locator {
  const virtualSize = file.size() - FOOTER_BYTES;
  return {
    virtualSize,
    async locate(offset, length): Promise<Extent[]> {
      return [{ state: 'data', offset, length, file, fileOffset: offset }];
    },
  };
}

interface Reading {
  virtualSize: number;
  reader: Verification['reader'];
  content: AsyncGenerator<Content>;
}

async function startReading(image: DiskImage, parts: VerifyParts): Promise<Reading> {
  const { signal } = parts;
  const own = (disk: Locator): Reading => ({
    virtualSize: disk.virtualSize,
    reader: 'vhdkit',
    content: contentOf(disk, signal),
  });
  if (image.format !== 'vhd') return own(image);
  if (image.type === 'fixed') return own(withoutFooter(image.file));
  const { openWithVhdLib } = await import('../verify-vhd-lib.js');
  try {
    const disk = await openWithVhdLib(image.file);
    return { virtualSize: disk.virtualSize, reader: 'vhd-lib', content: disk.content() };
  } catch (error) {
    if (isVhdkitError(error)) throw error;
    throw failed(
      parts,
      `vhd-lib refuses it: ${error instanceof Error ? error.message : error}`,
      undefined,
      error,
    );
  }
}

/** Opens the image and examines its structures. @throws VERIFY_FAILED when they are not sound */
async function openResult(parts: VerifyParts, file: RandomAccessFile): Promise<DiskImage> {
  let image: DiskImage;
  try {
    image = await openImage(file, { format: parts.format });
  } catch (error) {
    if (!isVhdkitError(error) || error.code === 'IO_FAILED') throw error;
    throw failed(parts, error.message, error.context.offset, error);
  }
  const findings = [...image.warnings, ...(await image.check())];
  const defect = findings.find(({ severity }) => severity === 'error' || severity === 'warning');
  if (!defect) return image;
  await image.close();
  throw failed(parts, `${defect.code}: ${defect.message}`, defect.offset);
}

/**
 * Reads the image back and compares it with its source.
 * @throws VERIFY_FAILED with the first offset that differs; CANCELLED, IO_FAILED
 */
export async function verify(parts: VerifyParts): Promise<Verification> {
  const file = await parts.fileSystem.open(parts.path);
  const cacheDropped = file.fd !== undefined && nativeCalls()?.dropPageCache(file.fd) === 0;
  const image = await openResult(parts, file);
  try {
    const { virtualSize, reader, content } = await startReading(image, parts);
    // A device may be larger than the disk on it.
    const fits =
      file.kind === 'device' ? virtualSize >= parts.virtualSize : virtualSize === parts.virtualSize;
    if (!fits) throw failed(parts, `its disk has ${virtualSize} bytes instead of ${parts.virtualSize}`);
    const sha256 = await compareContents(parts, content);
    return { sha256, reader, cacheDropped };
  } finally {
    await image.close();
  }
}

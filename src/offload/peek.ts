/**
 * Finds the zeros of a group without reading all of it: what begins with other bytes than zero is data.
 *
 * Of each 64 KiB chunk the first 4 KiB are looked at, in memory; only a chunk that begins with zeros is
 * read whole. Where bytes are not in memory they are read in large pieces, as whoever moves them next
 * would have to do anyway.
 *
 * For transfers in which the kernel copies: bytes that need no copy into this process stay out of it.
 */
import { isZero } from '../base/zeros.js';
import type { ByteRange, RandomAccessFile } from '../io/random-access-file.js';
import type { BufferPool } from './buffer-pool.js';
import type { DataPiece, Piece } from './pieces.js';

const PROBE = 4096;

export class Peeker {
  readonly #chunk: number;
  readonly #pool: BufferPool;
  readonly #probe = new Uint8Array(PROBE);

  /** `chunk`: granularity in bytes, counted from the start of the disk. */
  constructor(chunk: number, pool: BufferPool) {
    this.#chunk = chunk;
    this.#pool = pool;
  }

  /** The runs of chunks, as ranges of the disk, in which there may be other bytes than zero. */
  async runs(pieces: readonly Piece[]): Promise<ByteRange[]> {
    const runs: ByteRange[] = [];
    for (const piece of pieces) if (piece.state === 'data') await this.#piece(piece, runs);
    return runs;
  }

  async #piece(piece: DataPiece, runs: ByteRange[]): Promise<void> {
    const end = piece.offset + piece.length;
    for (let at = piece.offset; at < end; ) {
      const length = Math.min(this.#chunk - (at % this.#chunk), end - at);
      const answer = this.#begins(piece.source.file, piece.sourceOffset + (at - piece.offset), length);
      if (answer === 'data') push(runs, at, length);
      at += answer === 'unknown' ? await this.#read(piece, at, runs) : length;
    }
  }

  /** What the beginning of a chunk tells; 'unknown' when only reading will. */
  #begins(file: RandomAccessFile, offset: number, length: number): 'data' | 'unknown' {
    if (length < PROBE || !file.peek?.(this.#probe, offset)) return 'unknown';
    return isZero(this.#probe) ? 'unknown' : 'data';
  }

  /** Reads on from `at` and judges each chunk by all of its bytes. Answers how far it came. */
  async #read(piece: DataPiece, at: number, runs: ByteRange[]): Promise<number> {
    const { file } = piece.source;
    const start = piece.sourceOffset + (at - piece.offset);
    const rest = piece.offset + piece.length - at;
    return this.#pool.with(async (buffer) => {
      // A single zero chunk among data that is in memory costs one chunk; a cold range is read in large pieces.
      const hot = file.peek?.(this.#probe, start) ?? false;
      const limit = hot ? this.#chunk - (at % this.#chunk) : buffer.length;
      const bytes = buffer.subarray(0, Math.min(rest, limit));
      bytes.fill(0, await file.read(bytes, start));
      for (let done = 0; done < bytes.length; ) {
        const length = Math.min(this.#chunk - ((at + done) % this.#chunk), bytes.length - done);
        if (!isZero(bytes.subarray(done, done + length))) push(runs, at + done, length);
        done += length;
      }
      return bytes.length;
    });
  }
}

function push(runs: ByteRange[], offset: number, length: number): void {
  const last = runs.at(-1);
  if (last && last.offset + last.length === offset) last.length += length;
  else runs.push({ offset, length });
}

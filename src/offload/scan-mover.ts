/**
 * Moves a group whose payload is looked at: reads it and writes what is not zero, or peeks at it and has
 * the ladder move what is not zero.
 *
 * Invariants: only chunks with other bytes than zero are prepared and written (targets in which unwritten
 * parts are not zero get their zeros made explicitly); reads of several groups overlap, but each waits at
 * the turnstile with its bytes in hand, so that allocation follows the disk.
 */
import { KiB } from '../base/bytes.js';
import { nonZeroRuns } from '../base/zeros.js';
import { type Place, pushPlace } from '../block/extent.js';
import type { ByteRange } from '../io/random-access-file.js';
import type { Gatherer, Part } from './gather.js';
import { Peeker } from './peek.js';
import type { Group, Piece, ZeroPiece } from './pieces.js';
import { clipPieces, planRequests } from './plan.js';
import type { Prepared, PreparedWrites, Ticket } from './prepared-writes.js';
import type { MoverParts, RequestMover } from './request-mover.js';
import { runLimited } from './run-limited.js';

/** Granularity in which payload is searched for zeros, counted from the start of the disk. */
const ZERO_CHUNK = 64 * KiB;
const WRITES_IN_FLIGHT = 4;

/** A range of the disk that is prepared as one, and the runs in it that are written. */
interface Span extends ByteRange {
  runs: ByteRange[];
}

interface PreparedSpan extends Span {
  prepared: Prepared;
}

export interface ScanParts extends MoverParts {
  mover: RequestMover;
  writes: PreparedWrites;
  blockSize: number | undefined;
}

export class ScanMover {
  readonly #parts: ScanParts;
  readonly #gatherer: Gatherer;
  readonly #peeker: Peeker;
  /** Bytes are at hand after the scan; only an explicit choice makes another provider move them. */
  readonly #fromBuffer: boolean;

  constructor(parts: ScanParts) {
    this.#parts = parts;
    this.#gatherer = parts.gatherer;
    this.#peeker = new Peeker(ZERO_CHUNK, parts.pool);
    this.#fromBuffer = parts.ladder.isOpen || parts.ladder.choice === 'buffered';
  }

  async run(group: Group, ticket: Ticket): Promise<void> {
    if (group.kind === 'peek')
      return this.#place(group, await this.#peeker.runs(group.pieces), undefined, ticket);
    await this.#parts.rateLimit?.take(payloadOf(group.pieces), this.#parts.signal);
    const buffer = await this.#parts.pool.acquire();
    let held = true;
    try {
      const bytes = buffer.subarray(0, group.length);
      await this.#gatherer.fill(bytes, partsOf(group));
      const runs = runsOf(bytes, group.offset);
      if (!this.#fromBuffer) {
        // Whoever moves these bytes pays for them again.
        this.#parts.rateLimit?.refund(payloadOf(clipRuns(group, runs)));
        this.#parts.pool.release(buffer);
        held = false;
      }
      await this.#place(group, runs, held ? bytes : undefined, ticket);
    } finally {
      if (held) this.#parts.pool.release(buffer);
    }
  }

  /** Prepares the runs and fills them: from the bytes of the group when they are at hand. */
  async #place(
    group: Group,
    runs: ByteRange[],
    bytes: Uint8Array | undefined,
    ticket: Ticket,
  ): Promise<void> {
    const prepared: PreparedSpan[] = [];
    try {
      await ticket.enter();
      for (const span of this.#spans(group, runs)) {
        prepared.push({ ...span, prepared: await this.#parts.writes.prepare(span.offset, span.length) });
      }
      ticket.leave();
      for (const span of prepared) {
        await this.#fill(group, span, bytes);
        await span.prepared.commit();
      }
    } catch (error) {
      for (const span of prepared) await span.prepared.abort().catch(() => undefined);
      throw error;
    }
    const { tally, unwrittenIsZero } = this.#parts;
    const payload = payloadOf(group.pieces) - payloadOf(clipRuns(group, runs));
    // Where zeros must be written, the mover has counted them; the reading it knows nothing of.
    tally.addScannedZeros(unwrittenIsZero ? lengthOf(gapsOf(group, runs)) : 0, payload);
  }

  /** Runs that share a block of the target are prepared together: a block is prepared once at a time. */
  #spans(group: Group, runs: ByteRange[]): Span[] {
    if (!this.#parts.unwrittenIsZero) return [{ offset: group.offset, length: group.length, runs }];
    const { blockSize } = this.#parts;
    const spans: Span[] = [];
    for (const run of runs) {
      const last = spans.at(-1);
      const sameBlock =
        last !== undefined &&
        blockSize !== undefined &&
        Math.floor((last.offset + last.length - 1) / blockSize) === Math.floor(run.offset / blockSize);
      if (last && sameBlock) {
        last.length = run.offset + run.length - last.offset;
        last.runs.push(run);
      } else {
        spans.push({ ...run, runs: [run] });
      }
    }
    return spans;
  }

  async #fill(group: Group, span: PreparedSpan, bytes: Uint8Array | undefined): Promise<void> {
    const { mover, tally, unwrittenIsZero } = this.#parts;
    const { places } = span.prepared;
    if (!unwrittenIsZero) await mover.run(planRequests(gapsOf(span, span.runs), places));
    const pieces = span.runs.flatMap((run) => clipPieces(group.pieces, run.offset, run.length));
    if (!bytes) {
      await mover.run(planRequests(pieces, places));
      return;
    }
    await runLimited(writesOf(span), WRITES_IN_FLIGHT, ({ file, fileOffset, offset, length }) => {
      const at = offset - group.offset;
      return file.write(bytes.subarray(at, at + length), fileOffset);
    });
    for (const { state, length } of pieces) tally.add(state === 'zero' ? 'zero' : 'buffered', length);
  }
}

/** The parts of the runs by place. */
function writesOf(span: PreparedSpan): Place[] {
  const writes: Place[] = [];
  for (const place of span.prepared.places) {
    for (const run of span.runs) {
      const offset = Math.max(place.offset, run.offset);
      const length = Math.min(place.offset + place.length, run.offset + run.length) - offset;
      if (length <= 0) continue;
      pushPlace(writes, {
        offset,
        length,
        file: place.file,
        fileOffset: place.fileOffset + (offset - place.offset),
      });
    }
  }
  return writes;
}

function lengthOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

function payloadOf(pieces: readonly Piece[]): number {
  return lengthOf(pieces.filter(({ state }) => state === 'data'));
}

/** The pieces of the group inside the runs. */
function clipRuns(group: Group, runs: readonly ByteRange[]): Piece[] {
  return runs.flatMap((run) => clipPieces(group.pieces, run.offset, run.length));
}

/** What of the range no run covers. */
function gapsOf(range: ByteRange, runs: readonly ByteRange[]): ZeroPiece[] {
  const gaps: ZeroPiece[] = [];
  let at = range.offset;
  for (const run of runs) {
    if (run.offset > at) gaps.push({ state: 'zero', offset: at, length: run.offset - at });
    at = run.offset + run.length;
  }
  const end = range.offset + range.length;
  if (end > at) gaps.push({ state: 'zero', offset: at, length: end - at });
  return gaps;
}

/** Runs with other bytes than zero, as ranges of the disk. The first chunk may be short. */
function runsOf(bytes: Uint8Array, offset: number): ByteRange[] {
  const lead = Math.min((ZERO_CHUNK - (offset % ZERO_CHUNK)) % ZERO_CHUNK, bytes.length);
  const runs: ByteRange[] = [];
  for (const [part, shift] of [
    [bytes.subarray(0, lead), 0],
    [bytes.subarray(lead), lead],
  ] as const) {
    for (const { start, end } of nonZeroRuns(part, ZERO_CHUNK)) {
      const run: ByteRange = { offset: offset + shift + start, length: end - start };
      const last = runs.at(-1);
      if (last && last.offset + last.length === run.offset) last.length += run.length;
      else runs.push(run);
    }
  }
  return runs;
}

function partsOf(group: Group): Part[] {
  return group.pieces.map((piece) => {
    const part: Part = { at: piece.offset - group.offset, length: piece.length, sourceOffset: 0 };
    if (piece.state === 'data') {
      part.source = piece.source;
      part.sourceOffset = piece.sourceOffset;
    }
    return part;
  });
}

/**
 * From extents to pieces to groups.
 *
 * A piece is a range of the disk that is zero or data; extents are refined to pieces by the holes of their
 * files. A group is a run of adjacent pieces that is prepared and moved together.
 *
 * Invariants: pieces cover the extents exactly and in order. A group has no gaps, one zero policy, and
 * does not cross a multiple of its policy's window. Groups are bounded in bytes and in pieces.
 */
import { BugError } from '../base/assert.js';
import { GiB, KiB, MiB } from '../base/bytes.js';
import type { DataExtent, Extent } from '../block/extent.js';
import type { HoleFinder, Source } from './sources.js';

/**
 * How payload is treated, settled per extent: read and looked at for zeros (`scan`), only peeked at for
 * zeros because another moves the bytes (`peek`), or not looked at (`holes`).
 */
export type Policy = 'scan' | 'peek' | 'holes';

export interface ZeroPiece {
  state: 'zero';
  offset: number;
  length: number;
}

export interface DataPiece {
  state: 'data';
  offset: number;
  length: number;
  source: Source;
  /** Within the source's file, and so within its token. */
  sourceOffset: number;
  policy: Policy;
}

export type Piece = ZeroPiece | DataPiece;

export interface Group {
  kind: Policy | 'zero';
  offset: number;
  length: number;
  pieces: Piece[];
}

/** Bytes read and looked at together: one buffer. Larger ones leave the processor's caches before they are written. */
export const SCAN_WINDOW = MiB;
/** Bytes peeked at and moved together. */
export const PEEK_WINDOW = 16 * MiB;
/** Longest range prepared at once where payload is not read. */
export const MOVE_WINDOW = GiB;
/** Zeros shorter than this don't break a group: writing them costs less than another request. */
export const SHORT_ZEROS = 64 * KiB;
const MAX_PIECES = 4096;

const WINDOW = { scan: SCAN_WINDOW, peek: PEEK_WINDOW, holes: MOVE_WINDOW, zero: MOVE_WINDOW } as const;

/** What a data extent is: its source, and how its payload is to be treated. */
export type Resolve = (extent: DataExtent) => Promise<{ source: Source; policy: Policy }>;

/** The pieces of the extents, in order. */
export async function* refine(
  extents: AsyncIterable<Extent>,
  holes: HoleFinder,
  resolve: Resolve,
): AsyncGenerator<Piece> {
  for await (const extent of extents) {
    if (extent.state === 'absent')
      throw new BugError(`an extent at ${extent.offset} is in no image of the chain`);
    if (extent.state === 'zero') yield { state: 'zero', offset: extent.offset, length: extent.length };
    else yield* refineData(extent, holes, await resolve(extent));
  }
}

function* refineData(
  extent: DataExtent,
  holes: HoleFinder,
  resolved: { source: Source; policy: Policy },
): Generator<Piece> {
  const { file, fileOffset, length } = extent;
  const shift = extent.offset - fileOffset;
  const end = fileOffset + length;
  for (let at = fileOffset; at < end; ) {
    const run = holes.nextData(file, at, end);
    const start = run ? run.offset : end;
    if (start > at) yield { state: 'zero', offset: at + shift, length: start - at };
    if (!run) return;
    yield {
      state: 'data',
      offset: start + shift,
      length: run.length,
      source: resolved.source,
      sourceOffset: start,
      policy: resolved.policy,
    };
    at = start + run.length;
  }
}

/** The part of a piece in front of `end`, and the rest. */
function cut(piece: Piece, end: number): [Piece, Piece | undefined] {
  const length = end - piece.offset;
  if (length >= piece.length) return [piece, undefined];
  const rest: Piece = { ...piece, offset: end, length: piece.length - length };
  if (rest.state === 'data') rest.sourceOffset += length;
  return [{ ...piece, length }, rest];
}

function joins(a: Piece, b: Piece): boolean {
  if (a.state !== 'data' || b.state !== 'data') return a.state === b.state;
  return a.source === b.source && a.sourceOffset + a.length === b.sourceOffset;
}

/** Collects pieces into groups, one at a time. */
class Grouper {
  #open: Group | undefined;

  /** Groups that are complete now that this piece has come. */
  *push(piece: Piece): Generator<Group> {
    if (piece.length === 0) return;
    if (this.#open && !this.#takes(this.#open, piece)) yield* this.close();
    let rest: Piece | undefined = piece;
    while (rest) {
      const kind: Group['kind'] = this.#open?.kind ?? (rest.state === 'data' ? rest.policy : 'zero');
      const window = WINDOW[kind];
      const [part, after]: [Piece, Piece | undefined] = cut(
        rest,
        rest.offset - (rest.offset % window) + window,
      );
      this.#append(kind, part);
      if ((part.offset + part.length) % window === 0) yield* this.close();
      rest = after;
    }
  }

  *close(): Generator<Group> {
    const group = this.#open;
    this.#open = undefined;
    if (!group) return;
    const last = group.pieces.at(-1);
    if (group.kind === 'zero' || last?.state !== 'zero') {
      yield group;
      return;
    }
    // Zeros at the end would only make the target allocate more.
    group.pieces.pop();
    group.length -= last.length;
    yield group;
    yield { kind: 'zero', offset: last.offset, length: last.length, pieces: [last] };
  }

  #takes(group: Group, piece: Piece): boolean {
    if (piece.offset !== group.offset + group.length || group.pieces.length >= MAX_PIECES) return false;
    if (piece.state === 'data') return piece.policy === group.kind;
    return group.kind === 'zero' || piece.length < SHORT_ZEROS;
  }

  #append(kind: Group['kind'], piece: Piece): void {
    this.#open ??= { kind, offset: piece.offset, length: 0, pieces: [] };
    const last = this.#open.pieces.at(-1);
    if (last && joins(last, piece)) last.length += piece.length;
    else this.#open.pieces.push({ ...piece });
    this.#open.length += piece.length;
  }
}

/** The groups of the pieces, in order. */
export async function* groups(pieces: AsyncIterable<Piece>): AsyncGenerator<Group> {
  const grouper = new Grouper();
  for await (const piece of pieces) yield* grouper.push(piece);
  yield* grouper.close();
}

/**
 * From pieces and places to requests: which bytes go where. Pure.
 *
 * Invariants: requests are in disk order and cover what pieces and places have in common exactly once;
 * neighbours that are contiguous on both sides are one request; none is longer than the cap.
 */
import type { Place } from '../block/extent.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { Piece } from './pieces.js';
import type { Source } from './sources.js';

export interface CopyRequest {
  kind: 'copy';
  source: Source;
  sourceOffset: number;
  target: RandomAccessFile;
  targetOffset: number;
  length: number;
}

export interface ZeroRequest {
  kind: 'zero';
  target: RandomAccessFile;
  targetOffset: number;
  length: number;
}

export type Request = CopyRequest | ZeroRequest;

function continues(last: Request, next: Request): boolean {
  if (last.target !== next.target || last.targetOffset + last.length !== next.targetOffset) return false;
  if (last.kind === 'zero' || next.kind === 'zero') return last.kind === next.kind;
  return last.source === next.source && last.sourceOffset + last.length === next.sourceOffset;
}

/** Appends a request, growing the last one up to `maxLength` when the two are contiguous on both sides. */
function push(requests: Request[], request: Request, maxLength: number): void {
  let rest = request;
  const last = requests.at(-1);
  if (last && continues(last, rest)) {
    const taken = Math.min(rest.length, maxLength - last.length);
    last.length += taken;
    rest = advance(rest, taken);
  }
  while (rest.length > 0) {
    const length = Math.min(rest.length, maxLength);
    requests.push({ ...rest, length });
    rest = advance(rest, length);
  }
}

/** What is left of a request after its first `done` bytes. */
export function advance<T extends Request>(request: T, done: number): T {
  const rest: T = {
    ...request,
    targetOffset: request.targetOffset + done,
    length: request.length - done,
  };
  if (rest.kind === 'copy' && request.kind === 'copy') rest.sourceOffset = request.sourceOffset + done;
  return rest;
}

function requestFor(piece: Piece, place: Place, start: number, end: number): Request {
  const target = place.file;
  const targetOffset = place.fileOffset + (start - place.offset);
  const length = end - start;
  if (piece.state === 'zero') return { kind: 'zero', target, targetOffset, length };
  const { source } = piece;
  return {
    kind: 'copy',
    source,
    sourceOffset: piece.sourceOffset + (start - piece.offset),
    target,
    targetOffset,
    length,
  };
}

/** Both lists are in disk order and without overlaps; what only one of them covers gets no request. */
export function planRequests(
  pieces: readonly Piece[],
  places: readonly Place[],
  maxLength = Number.MAX_SAFE_INTEGER,
): Request[] {
  const requests: Request[] = [];
  let first = 0;
  for (const place of places) {
    const placeEnd = place.offset + place.length;
    for (let index = first; index < pieces.length; index += 1) {
      const piece = pieces[index] as Piece;
      const pieceEnd = piece.offset + piece.length;
      if (piece.offset >= placeEnd) break;
      const start = Math.max(piece.offset, place.offset);
      const end = Math.min(pieceEnd, placeEnd);
      if (start < end) push(requests, requestFor(piece, place, start, end), maxLength);
      // Pieces that end here concern no later place.
      if (pieceEnd <= placeEnd) first = index + 1;
    }
  }
  return requests;
}

/** The parts of the pieces inside `[offset, offset + length)`. */
export function clipPieces(pieces: readonly Piece[], offset: number, length: number): Piece[] {
  const clipped: Piece[] = [];
  for (const piece of pieces) {
    const start = Math.max(piece.offset, offset);
    const end = Math.min(piece.offset + piece.length, offset + length);
    if (start >= end) continue;
    const part: Piece = { ...piece, offset: start, length: end - start };
    if (part.state === 'data') part.sourceOffset += start - piece.offset;
    clipped.push(part);
  }
  return clipped;
}

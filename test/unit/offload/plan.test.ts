/** Requests from pieces and places, against a map of single bytes. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Place } from '../../../src/block/extent.js';
import { MemoryFile } from '../../../src/io/memory-file.js';
import type { Piece } from '../../../src/offload/pieces.js';
import { clipPieces, planRequests, type Request } from '../../../src/offload/plan.js';
import type { Source } from '../../../src/offload/sources.js';
import { ZERO_TOKEN } from '../../../src/offload/token-codec.js';

const files = [new MemoryFile(), new MemoryFile()] as const;
const sources: Source[] = files.map((file) => ({ file, token: ZERO_TOKEN }));

interface Shape {
  skip: number;
  length: number;
  which: number;
  at: number;
}

const shapes = fc.array(
  fc.record({
    skip: fc.constantFrom(0, 0, 0, 3),
    length: fc.integer({ min: 1, max: 20 }),
    which: fc.nat(2),
    at: fc.constantFrom(0, 0, 0, 50, 1000),
  }),
  { maxLength: 12 },
);

function piecesOf(list: Shape[]): Piece[] {
  let offset = 0;
  return list.map(({ skip, length, which, at }) => {
    offset += skip;
    const source = sources[which];
    const piece: Piece = source
      ? { state: 'data', offset, length, source, sourceOffset: offset + at, policy: 'holes' }
      : { state: 'zero', offset, length };
    offset += length;
    return piece;
  });
}

function placesOf(list: Shape[]): Place[] {
  let offset = 0;
  return list.map(({ skip, length, which, at }) => {
    offset += skip;
    const place = { offset, length, file: files[which % 2] as MemoryFile, fileOffset: offset + at * 10 };
    offset += length;
    return place;
  });
}

/** For every byte of the disk: where it comes from and where it goes. */
function model(pieces: Piece[], places: Place[]): string[] {
  const lines: string[] = [];
  for (const place of places) {
    for (let at = place.offset; at < place.offset + place.length; at += 1) {
      const piece = pieces.find(({ offset, length }) => at >= offset && at < offset + length);
      if (!piece) continue;
      const to = `${files.indexOf(place.file as MemoryFile)}:${place.fileOffset + at - place.offset}`;
      const from =
        piece.state === 'zero'
          ? 'zero'
          : `${sources.indexOf(piece.source)}:${piece.sourceOffset + at - piece.offset}`;
      lines.push(`${from} -> ${to}`);
    }
  }
  return lines;
}

function bytesOf(requests: Request[]): string[] {
  return requests.flatMap((request) =>
    Array.from({ length: request.length }, (_, index) => {
      const to = `${files.indexOf(request.target as MemoryFile)}:${request.targetOffset + index}`;
      return request.kind === 'zero'
        ? `zero -> ${to}`
        : `${sources.indexOf(request.source)}:${request.sourceOffset + index} -> ${to}`;
    }),
  );
}

function contiguous(a: Request, b: Request): boolean {
  if (a.kind !== b.kind || a.target !== b.target || a.targetOffset + a.length !== b.targetOffset)
    return false;
  if (a.kind === 'zero' || b.kind === 'zero') return true;
  return a.source === b.source && a.sourceOffset + a.length === b.sourceOffset;
}

describe('planRequests', () => {
  it('maps every byte once, in order, in as few requests as the cap allows', () => {
    fc.assert(
      fc.property(shapes, shapes, fc.integer({ min: 1, max: 40 }), (a, b, cap) => {
        const [pieces, places] = [piecesOf(a), placesOf(b)];
        const requests = planRequests(pieces, places, cap);
        expect(bytesOf(requests)).toEqual(model(pieces, places));
        for (const [index, request] of requests.entries()) {
          expect(request.length).toBeGreaterThan(0);
          expect(request.length).toBeLessThanOrEqual(cap);
          const next = requests[index + 1];
          if (next && contiguous(request, next)) expect(request.length).toBe(cap);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('clipPieces', () => {
  it('keeps what lies inside', () => {
    fc.assert(
      fc.property(shapes, fc.nat(60), fc.integer({ min: 1, max: 60 }), (list, offset, length) => {
        const pieces = piecesOf(list);
        const place: Place = { offset, length, file: files[0], fileOffset: offset };
        const clipped = clipPieces(pieces, offset, length);
        expect(model(clipped, [place])).toEqual(model(pieces, [place]));
        for (const piece of clipped) {
          expect(piece.offset).toBeGreaterThanOrEqual(offset);
          expect(piece.offset + piece.length).toBeLessThanOrEqual(offset + length);
        }
      }),
    );
  });
});

/**
 * Makes an image's file short: what lies at its end moves into the gaps, then the end is cut off.
 *
 * Invariant: every batch is durable before the next one begins, and only places that were free at the start
 * are written to; see rearrange/fill-plan.ts.
 */
import { GiB } from '../../base/bytes.js';
import { throwIfAborted } from '../../base/errors.js';
import type { RelocatableImage } from '../../formats/relocatable-image.js';
import type { SessionOptions } from '../../offload/transfer-session.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import { add, NOTHING_MOVED } from '../bytes-moved.js';
import type { ProgressSink } from '../host.js';
import { dropAnchors } from '../rearrange/anchors.js';
import { fillPlan } from '../rearrange/fill-plan.js';
import { carryOut, cutOff } from '../rearrange/mover.js';
import { type Ground, type Move, UnitTable } from '../rearrange/unit-table.js';

export interface MovedDown {
  units: number;
  /** Bytes of these units. */
  length: number;
  bytes: BytesMoved;
  /** Bytes that the file lost. */
  cut: number;
}

export interface MoveDownOptions {
  session: SessionOptions;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/** Bytes moved between two flushes. */
const BATCH = GiB;
const BATCH_MOVES = 4096;

/** @throws what moving bytes throws; CANCELLED between two batches */
export async function moveDown(image: RelocatableImage, options: MoveDownOptions): Promise<MovedDown> {
  const { session, signal, progress } = options;
  await dropAnchors(image);
  const units = await UnitTable.of(image.units());
  const ground: Ground = {
    immovable: image.immovable(),
    placeFrom: (offset) => image.placeFrom(offset),
  };
  const moves = fillPlan(units, ground);
  const result: MovedDown = {
    units: 0,
    length: 0,
    bytes: NOTHING_MOVED,
    cut: 0,
  };
  const total = moves.reduce((sum, { row }) => sum + units.length(row), 0);
  for (let at = 0; at < moves.length; ) {
    throwIfAborted(signal, 'compact');
    const batch = takeBatch(moves, at, units);
    at += batch.length;
    const planned = batch.map((move) => ({ ...move, from: units.offset(move.row) }));
    result.bytes = add(result.bytes, await carryOut(image, units, planned, session));
    await image.flush();
    for (const { row, to } of batch) {
      units.setOffset(row, to);
      result.length += units.length(row);
    }
    result.units += batch.length;
    progress?.update(result.length, total);
  }
  result.cut = await cutOff(image, units);
  return result;
}

function takeBatch(moves: readonly Move[], at: number, units: UnitTable): readonly Move[] {
  let bytes = 0;
  let end = at;
  while (end < moves.length && end - at < BATCH_MOVES && bytes < BATCH) {
    bytes += units.length(moves[end]?.row ?? 0);
    end += 1;
  }
  return moves.slice(at, end);
}

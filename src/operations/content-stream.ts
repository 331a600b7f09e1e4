/**
 * The bytes of a disk in order, read ahead of whoever uses them.
 *
 * Invariants: the pieces cover the disk exactly once, in order; what is not stored is handed out as zeros
 * without being read; memory is DEPTH + 1 buffers whatever the disk looks like. A piece's bytes are valid
 * only until the next piece is asked for. When the consumer stops early, no read is left under way.
 */
import { setImmediate } from 'node:timers/promises';
import { throwIfAborted } from '../base/errors.js';
import { type DataExtent, type Extent, type Locator, walkExtents } from '../block/extent.js';

/** A piece of a disk. Without `bytes` it is all zeros. */
export interface Content {
  /** Bytes from the start of the disk. */
  offset: number;
  length: number;
  bytes?: Uint8Array;
}

/** Most bytes in one piece that is stored. */
export const CONTENT_CHUNK = 1024 * 1024;
/** Longest piece of zeros: bounds the time until a signal is noticed. */
const ZERO_CHUNK = 32 * 1024 * 1024;
/** Holes shorter than this are filled into the piece around them: one piece is cheaper than three. */
const SMALL_HOLE = 64 * 1024;
/** Pieces on their way at a time; Node's thread pool reads four at once. */
const DEPTH = 4;

/** A piece before it is read; no parts: zeros. */
interface Plan {
  offset: number;
  length: number;
  parts: DataExtent[];
}

/** Cuts an extent at `CONTENT_CHUNK` bytes of the plan; returns what did not fit. */
function append(plan: Plan, extent: Extent): Extent | undefined {
  const room = CONTENT_CHUNK - plan.length;
  const length = Math.min(room, extent.length);
  if (extent.state === 'data') plan.parts.push({ ...extent, length });
  plan.length += length;
  if (length === extent.length) return undefined;
  const rest = { ...extent, offset: extent.offset + length, length: extent.length - length };
  if (rest.state === 'data') rest.fileOffset += length;
  return rest;
}

async function* plans(disk: Locator): AsyncGenerator<Plan> {
  let plan: Plan | undefined;
  for await (const extent of walkExtents(disk, { offset: 0, length: disk.virtualSize })) {
    let rest: Extent | undefined = extent;
    if (extent.state !== 'data' && extent.length >= SMALL_HOLE) {
      if (plan) yield plan;
      plan = undefined;
      const end = extent.offset + extent.length;
      for (let offset = extent.offset; offset < end; offset += ZERO_CHUNK)
        yield { offset, length: Math.min(ZERO_CHUNK, end - offset), parts: [] };
      continue;
    }
    while (rest) {
      plan ??= { offset: rest.offset, length: 0, parts: [] };
      rest = append(plan, rest);
      if (plan.length < CONTENT_CHUNK) continue;
      yield plan;
      plan = undefined;
    }
  }
  if (plan) yield plan;
}

async function load(plan: Plan, buffer: Uint8Array): Promise<Uint8Array> {
  let filled = 0;
  for (const { offset, length, file, fileOffset } of plan.parts) {
    const start = offset - plan.offset;
    buffer.fill(0, filled, start);
    const part = buffer.subarray(start, start + length);
    // What a file cut off in its last block does not have reads as zeros, as everywhere.
    part.fill(0, await file.read(part, fileOffset));
    filled = start + length;
  }
  buffer.fill(0, filled, plan.length);
  return buffer.subarray(0, plan.length);
}

/** A piece on its way. */
interface Pending {
  plan: Plan;
  buffer?: Uint8Array;
  bytes?: Promise<Uint8Array>;
}

function start(plan: Plan, free: Uint8Array[]): Pending {
  if (plan.parts.length === 0) return { plan };
  const buffer = free.pop() ?? new Uint8Array(CONTENT_CHUNK);
  const bytes = load(plan, buffer);
  // A failure must not count as unhandled before its turn comes.
  bytes.catch(() => undefined);
  return { plan, buffer, bytes };
}

/**
 * All of a disk, in order.
 * @throws CANCELLED, IO_FAILED, IMAGE_CORRUPT
 */
export async function* contentOf(disk: Locator, signal?: AbortSignal): AsyncGenerator<Content> {
  const free: Uint8Array[] = [];
  const queue: Pending[] = [];
  const source = plans(disk);
  let more = true;
  try {
    for (;;) {
      while (more && queue.length < DEPTH) {
        const step = await source.next();
        if (step.done) more = false;
        else queue.push(start(step.value, free));
      }
      const next = queue.shift();
      if (!next) return;
      throwIfAborted(signal, 'read the disk');
      const { offset, length } = next.plan;
      if (next.bytes) {
        yield { offset, length, bytes: await next.bytes };
        if (next.buffer) free.push(next.buffer);
      } else {
        yield { offset, length };
        // Nothing else here would let signals in while only zeros are handed out.
        await setImmediate();
      }
    }
  } finally {
    await Promise.allSettled(queue.map(({ bytes }) => bytes));
    await source.return(undefined);
  }
}

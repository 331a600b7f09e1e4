/**
 * READ: simple replies, or chunks of data and holes.
 *
 * Small reads that need no waiting are read into the slab they are sent from. With structured replies, and unless
 * the client forbids it (DF), runs of zeros travel as holes, and long requests are read and sent piece by piece, so
 * that they need no memory of their length; a failure in their middle is a chunk like any other. Without structured replies nothing
 * is sent before all of it is read.
 */
import { KiB, MiB } from '../../base/bytes.js';
import { isZero, nonZeroRuns } from '../../base/zeros.js';
import { LARGEST_RESERVATION } from '../output.js';
import {
  CHUNK_HEADER_SIZE,
  ChunkFlag,
  ChunkType,
  CommandFlag,
  Errno,
  SIMPLE_REPLY_SIZE,
} from '../protocol.js';
import { putChunkHeader, putOffset, putSimpleReply } from '../replies.js';
import type { Request } from '../request.js';
import type { Session } from '../session.js';

/** Long requests are read in pieces of this size. */
export const PIECE = 1 * MiB;
/** Longest read that is tried at once: it holds up all other connections for the time of a copy. */
const LONGEST_NOW = 256 * KiB;
/** Shorter reads are not looked through for zeros. */
const SHORTEST_SEARCHED = 16 * KiB;
/** Runs of zeros shorter than this travel as data. */
const HOLE_GRAIN = 64 * KiB;
const DATA_HEADER_SIZE = CHUNK_HEADER_SIZE + 8;

function mayBeChunks(session: Session, request: Request): boolean {
  return session.structured && (request.flags & CommandFlag.DF) === 0;
}

/** Bytes to be admitted before `startRead`. */
export function readCost(session: Session, request: Request): number {
  return mayBeChunks(session, request) ? Math.min(request.length, PIECE) : request.length;
}

/** The bytes that `readCost` tells are held already. */
export function startRead(session: Session, request: Request): void {
  session.bytesRead += request.length;
  if (request.length <= LONGEST_NOW && session.device.readNow && readNow(session, request)) return;
  if (request.length > PIECE && mayBeChunks(session, request))
    session.run(request, () => readInPieces(session, request));
  else session.run(request, () => readWhole(session, request));
}

/** True: answered. */
function readNow(session: Session, request: Request): boolean {
  const header = session.structured ? DATA_HEADER_SIZE : SIMPLE_REPLY_SIZE;
  if (header + request.length > LARGEST_RESERVATION) return readNowAside(session, request);
  const { output } = session;
  const { length } = request;
  const at = output.reserve(header + length);
  const { slab } = output;
  const data = slab.subarray(at + header, at + header + length);
  try {
    if (!session.device.readNow?.(data, request.offset)) return false;
  } catch (error) {
    session.account.give(length);
    session.fail(request, error);
    return true;
  }
  if (length >= SHORTEST_SEARCHED && mayBeChunks(session, request) && isZero(data)) {
    putHole(session, request, { offset: request.offset, length, last: true });
    session.account.give(length);
    return true;
  }
  putDataHeader(session, slab, at, { request, offset: request.offset, length, last: true });
  output.commit(header + length, length);
  return true;
}

/** The same with a buffer of its own, which travels by reference. */
function readNowAside(session: Session, request: Request): boolean {
  const buffer = session.buffers.lend(request.length);
  try {
    if (session.device.readNow?.(buffer.subarray(0, request.length), request.offset)) {
      sendPart(session, request, { offset: request.offset, buffer, length: request.length, last: true });
      return true;
    }
  } catch (error) {
    session.fail(request, error);
    release(session, buffer, request.length);
    return true;
  }
  session.buffers.release(buffer);
  return false;
}

async function readWhole(session: Session, request: Request): Promise<void> {
  const { offset, length } = request;
  const buffer = session.buffers.lend(length);
  try {
    await session.device.read(buffer.subarray(0, length), offset);
  } catch (error) {
    release(session, buffer, length);
    throw error;
  }
  sendPart(session, request, { offset, buffer, length, last: true });
}

async function readInPieces(session: Session, request: Request): Promise<void> {
  const end = request.offset + request.length;
  let held = true;
  for (let at = request.offset; at < end; ) {
    const length = Math.min(PIECE, end - at);
    // The first piece was admitted with the request. Later ones take no more than it did.
    if (!held && !(await session.admit(length))) return;
    held = false;
    const buffer = session.buffers.lend(length);
    try {
      await session.device.read(buffer.subarray(0, length), at);
    } catch (error) {
      release(session, buffer, length);
      throw error;
    }
    sendPart(session, request, { offset: at, buffer, length, last: at + length === end });
    at += length;
    if (at < end) session.output.flushSoon();
  }
}

function release(session: Session, buffer: Buffer, held: number): void {
  session.buffers.release(buffer);
  session.account.give(held);
}

/** Sends what was read into the buffer, and gives the buffer and what was held for it back afterwards. */
function sendPart(
  session: Session,
  request: Request,
  part: { offset: number; buffer: Buffer; length: number; last: boolean },
): void {
  const { offset, buffer, length, last } = part;
  if (session.isClosed) {
    release(session, buffer, length);
    return;
  }
  const bytes = buffer.subarray(0, length);
  if (!mayBeChunks(session, request) || length < SHORTEST_SEARCHED) {
    putHeaderAlone(session, { request, offset, length, last });
    session.output.append(bytes, length, () => session.buffers.release(buffer));
    return;
  }
  const runs = nonZeroRuns(bytes, HOLE_GRAIN);
  let at = 0;
  let left = runs.length;
  for (const { start, end } of runs) {
    if (start > at) putHole(session, request, { offset: offset + at, length: start - at, last: false });
    left -= 1;
    const isLast = left === 0;
    putHeaderAlone(session, {
      request,
      offset: offset + start,
      length: end - start,
      last: last && isLast && end === length,
    });
    session.output.append(bytes.subarray(start, end), isLast ? length : 0, () => {
      if (isLast) session.buffers.release(buffer);
    });
    at = end;
  }
  if (at < length) putHole(session, request, { offset: offset + at, length: length - at, last });
  if (runs.length === 0) release(session, buffer, length);
}

interface DataHeader {
  request: Request;
  offset: number;
  length: number;
  /** It ends the reply. */
  last: boolean;
}

function putHeaderAlone(session: Session, header: DataHeader): void {
  const size = session.structured ? DATA_HEADER_SIZE : SIMPLE_REPLY_SIZE;
  const at = session.output.reserve(size);
  putDataHeader(session, session.output.slab, at, header);
  session.output.commit(size);
}

function putDataHeader(session: Session, slab: Buffer, at: number, header: DataHeader): void {
  const { request, offset, length, last } = header;
  if (!session.structured) {
    putSimpleReply(slab, at, Errno.NONE, request);
    return;
  }
  const flags = last ? ChunkFlag.DONE : 0;
  putChunkHeader(slab, at, { flags, type: ChunkType.OFFSET_DATA, length: 8 + length }, request);
  putOffset(slab, at + CHUNK_HEADER_SIZE, offset);
}

function putHole(
  session: Session,
  request: Request,
  hole: { offset: number; length: number; last: boolean },
): void {
  const { output } = session;
  const at = output.reserve(DATA_HEADER_SIZE + 4);
  const flags = hole.last ? ChunkFlag.DONE : 0;
  putChunkHeader(output.slab, at, { flags, type: ChunkType.OFFSET_HOLE, length: 12 }, request);
  putOffset(output.slab, at + CHUNK_HEADER_SIZE, hole.offset);
  output.slab.writeUInt32BE(hole.length, at + DATA_HEADER_SIZE);
  output.commit(DATA_HEADER_SIZE + 4);
}

/**
 * Replies on their way into a socket: many small ones become one write.
 *
 * Invariants: bytes leave in the order they were put. Small replies are written into a slab, together with the data of
 * small reads, which are thus read to where they leave from; large payloads go by reference. The socket has one batch at a
 * time, of about a mebibyte; what comes meanwhile is gathered for the next one, so a client that takes nothing does not make
 * slabs pile up, and `taken` tells whether a slow one takes anything. A slab or a payload is used again only after the
 * system took it.
 */
import type { Writable } from 'node:stream';
import { KiB, MiB } from '../base/bytes.js';
import type { RecycledBuffers } from './recycled-buffers.js';

/** Size of a slab: sixteen replies of 4 KiB, and some. */
const SLAB_SIZE = 128 * KiB;
/** What is larger than this goes by reference. */
export const LARGEST_RESERVATION = 64 * KiB;
const BATCH_SIZE = 1 * MiB;

interface Piece {
  readonly bytes: Buffer;
  /** Told to `onTaken` with the batch. */
  held: number;
  /** Called when the system took it. */
  after: (() => void) | undefined;
}

export class Output {
  readonly #socket: Writable;
  readonly #buffers: RecycledBuffers;
  readonly #onTaken: (held: number) => void;
  /** The slab being filled: [#start, #end) is complete and not among the pieces yet. */
  #slab: Buffer | undefined;
  #start = 0;
  #end = 0;
  #slabHeld = 0;
  #pieces: Piece[] = [];
  #pending = 0;
  #taken = 0;
  #scheduled = false;
  /** What the socket has and the system has not taken whole. */
  #underWay: readonly Piece[] | undefined;
  #isClosed = false;

  /** `onTaken` is called whenever the system took a batch, with the sum of what was held for it. */
  constructor(socket: Writable, buffers: RecycledBuffers, onTaken: (held: number) => void) {
    this.#socket = socket;
    this.#buffers = buffers;
    this.#onTaken = onTaken;
  }

  /** Bytes that were put and not taken by the system yet. */
  get pending(): number {
    return this.#pending;
  }

  /** Bytes the system took so far. */
  get taken(): number {
    return this.#taken;
  }

  /** Where `reserve` made room. */
  get slab(): Buffer {
    if (this.#slab === undefined) this.#slab = this.#buffers.lend(SLAB_SIZE);
    return this.#slab;
  }

  /** Room for `length` bytes (at most LARGEST_RESERVATION) in `slab`: answers where. Forgotten unless committed. */
  reserve(length: number): number {
    if (this.#slab !== undefined && this.#end + length > this.#slab.length) this.#closeSlab();
    return this.#end;
  }

  /** The first `length` bytes of what was reserved are complete; `held` is told to `onTaken` when they are taken. */
  commit(length: number, held = 0): void {
    this.#end += length;
    this.#pending += length;
    this.#slabHeld += held;
  }

  /** Puts bytes by reference; `after` is called when they may be changed again. */
  append(bytes: Buffer, held: number, after: () => void): void {
    this.#cut();
    this.#pending += bytes.length;
    let at = 0;
    for (; bytes.length - at > BATCH_SIZE; at += BATCH_SIZE)
      this.#pieces.push({ bytes: bytes.subarray(at, at + BATCH_SIZE), held: 0, after: undefined });
    this.#pieces.push({ bytes: at === 0 ? bytes : bytes.subarray(at), held, after });
  }

  /** Puts a copy of bytes, whatever their number; `held` is told to `onTaken` when they are taken. */
  put(bytes: Buffer, held = 0): void {
    if (bytes.length > LARGEST_RESERVATION) {
      this.append(bytes, held, () => undefined);
      return;
    }
    const at = this.reserve(bytes.length);
    bytes.copy(this.slab, at);
    this.commit(bytes.length, held);
  }

  /** Flushes at the end of the event loop's present turn, together with whatever else is put in it. */
  flushSoon(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.flush();
    });
  }

  flush(): void {
    if (this.#underWay || this.#isClosed) return;
    if (this.#pieces.length === 0 && this.#end === this.#start) return;
    this.#cut();
    this.#retireSlab();
    const batch = this.#nextBatch();
    this.#underWay = batch;
    this.#send(batch, () => this.#batchTaken(batch));
  }

  #nextBatch(): Piece[] {
    let bytes = 0;
    let count = 0;
    for (const piece of this.#pieces) {
      if (count > 0 && bytes + piece.bytes.length > BATCH_SIZE) break;
      bytes += piece.bytes.length;
      count += 1;
    }
    if (count < this.#pieces.length) return this.#pieces.splice(0, count);
    const all = this.#pieces;
    this.#pieces = [];
    return all;
  }

  #send(batch: readonly Piece[], done: () => void): void {
    const last = batch.length - 1;
    if (last > 0) this.#socket.cork();
    for (let index = 0; index < last; index++) this.#socket.write(batch[index]?.bytes);
    this.#socket.write(batch[last]?.bytes, done);
    if (last > 0) this.#socket.uncork();
  }

  #batchTaken(batch: readonly Piece[]): void {
    if (this.#isClosed) return;
    this.#underWay = undefined;
    const held = this.#giveBack(batch);
    this.flush();
    this.#onTaken(held);
  }

  #giveBack(pieces: readonly Piece[]): number {
    let held = 0;
    for (const piece of pieces) {
      this.#pending -= piece.bytes.length;
      this.#taken += piece.bytes.length;
      held += piece.held;
      piece.after?.();
    }
    return held;
  }

  /**
   * The socket is closed: everything is given back, whether it was taken or not. Sockets do not tell of all that
   * they had when they failed. Nothing may be put afterwards.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#cut();
    this.#retireSlab();
    this.#isClosed = true;
    const held = this.#giveBack([...(this.#underWay ?? []), ...this.#pieces]);
    this.#pieces = [];
    this.#onTaken(held);
  }

  /** Moves what is complete in the slab among the pieces. */
  #cut(): void {
    if (this.#slab === undefined || this.#end === this.#start) return;
    const bytes = this.#slab.subarray(this.#start, this.#end);
    this.#pieces.push({ bytes, held: this.#slabHeld, after: undefined });
    this.#start = this.#end;
    this.#slabHeld = 0;
  }

  /** A full slab need not wait for the turn's end. */
  #closeSlab(): void {
    this.#cut();
    this.#retireSlab();
    this.flush();
  }

  /** The slab goes back when the last piece, which lies in it or comes after it, is taken. */
  #retireSlab(): void {
    const slab = this.#slab;
    const last = this.#pieces.at(-1);
    if (slab === undefined || last === undefined) return;
    this.#slab = undefined;
    this.#start = 0;
    this.#end = 0;
    const { after } = last;
    last.after = () => {
      after?.();
      this.#buffers.release(slab);
    };
  }
}

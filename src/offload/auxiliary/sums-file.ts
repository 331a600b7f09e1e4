/**
 * Lists of sums that are too long for their tokens: one compact file beside the tokens. Little-endian.
 *
 *   0   8 B  "vhdksums"          16  48 B  per list: SHA-256 of it (32 B), offset (u64), length (u64)
 *   8  u32   version: 1
 *  12  u32   number of lists     then the lists
 *
 * Invariants: a list is found by the SHA-256 that its token has, and read through once before it is used, so
 * that lists can't be exchanged and none is used damaged. Nothing is taken from the file unchecked; memory is
 * a page of it and the table, whatever its length.
 */
import { createHash } from 'node:crypto';
import { assert } from '../../base/assert.js';
import { KiB, MiB, toSafeNumber } from '../../base/bytes.js';
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { type AuxiliaryFields, INLINE_LIST_BYTES, SUM_BYTES } from './auxiliary-codec.js';
import { blockCount } from './block-grid.js';

const MAGIC = Buffer.from('vhdksums');
const VERSION = 1;
const HEAD_BYTES = 16;
const ENTRY_BYTES = 48;
/** Two lists per token of the largest token file. */
const MAX_LISTS = 2 * 65_536;
const WRITE_BUFFER = 64 * KiB;
const READ_BUFFER = MiB;

/** Sums of a token's blocks, by number. */
export interface SumList {
  /** Sums `first` up to, not including, `end`, back to back. */
  read(first: number, end: number): Promise<Uint8Array>;
}

/** Takes the sums of one token in order. */
export class ListSink {
  readonly #file: RandomAccessFile | undefined;
  readonly #offset: number;
  readonly #length: number;
  readonly #hash = createHash('sha256');
  readonly #buffer: Uint8Array;
  #filled = 0;
  #written = 0;

  constructor(length: number, file: RandomAccessFile | undefined, offset: number) {
    this.#file = file;
    this.#offset = offset;
    this.#length = length;
    this.#buffer = new Uint8Array(file ? WRITE_BUFFER + 32 : length);
  }

  /** Never waits: call `drain` now and then, at least every 64 KiB of sums. */
  add(sum: Uint8Array): void {
    this.#buffer.set(sum, this.#filled);
    this.#filled += sum.length;
  }

  async drain(): Promise<void> {
    if (this.#file && this.#filled >= WRITE_BUFFER / 2) await this.#writeOut(this.#file);
  }

  async #writeOut(file: RandomAccessFile): Promise<void> {
    const bytes = this.#buffer.subarray(0, this.#filled);
    this.#hash.update(bytes);
    await file.write(bytes, this.#offset + this.#written);
    this.#written += this.#filled;
    this.#filled = 0;
  }

  /** What the token is to say about its list. */
  async finish(): Promise<{ listDigest: Uint8Array; list: Uint8Array | undefined }> {
    if (this.#file) await this.#writeOut(this.#file);
    else this.#hash.update(this.#buffer.subarray(0, this.#filled));
    assert(this.#written + (this.#file ? 0 : this.#filled) === this.#length, 'a list is complete');
    const list = this.#file ? undefined : this.#buffer;
    return { listDigest: this.#hash.digest(), list };
  }
}

/** Writes the file: room for all lists first, the lists as they come, the table at the end. */
export class SumsFileWriter {
  readonly #file: RandomAccessFile;
  readonly #table: Uint8Array;
  #lists = 0;
  #end: number;

  /** @param lists how many there will be that are too long for their tokens */
  constructor(file: RandomAccessFile, lists: number) {
    assert(lists <= MAX_LISTS, 'no more lists than tokens');
    this.#file = file;
    this.#table = new Uint8Array(HEAD_BYTES + lists * ENTRY_BYTES);
    this.#table.set(MAGIC);
    new DataView(this.#table.buffer).setUint32(8, VERSION, true);
    this.#end = this.#table.length;
  }

  /** Room for a list that a token can't hold. */
  begin(length: number): { sink: ListSink; close: () => Promise<Awaited<ReturnType<ListSink['finish']>>> } {
    const offset = this.#end;
    this.#end += length;
    const sink = new ListSink(length, this.#file, offset);
    const close = async () => {
      const finished = await sink.finish();
      this.#note(finished.listDigest, offset, length);
      return finished;
    };
    return { sink, close };
  }

  #note(digest: Uint8Array, offset: number, length: number): void {
    const at = HEAD_BYTES + this.#lists * ENTRY_BYTES;
    const view = new DataView(this.#table.buffer);
    this.#table.set(digest, at);
    view.setBigUint64(at + 32, BigInt(offset), true);
    view.setBigUint64(at + 40, BigInt(length), true);
    this.#lists += 1;
    view.setUint32(12, this.#lists, true);
  }

  async finish(): Promise<void> {
    await this.#file.write(this.#table, 0);
  }
}

export function listBytes(fields: Pick<AuxiliaryFields, 'kind' | 'length' | 'blockSize' | 'phase'>): number {
  return blockCount(fields) * SUM_BYTES[fields.kind];
}

export function fitsToken(bytes: number): boolean {
  return bytes <= INLINE_LIST_BYTES;
}

function damaged(path: string, what: string): VhdkitError {
  return new VhdkitError('TOKEN_INVALID', `${path}: ${what}`, {
    operation: 'read sums',
    context: { path, reason: 'malformed' },
    hint: 'Copy token files as they are, with the .json and .sums files beside them; `token write --no-verify` writes without checksums.',
  });
}

/** The lists of a file, by their SHA-256. */
export class SumsFile {
  readonly #file: RandomAccessFile;
  readonly #lists: ReadonlyMap<string, { offset: number; length: number }>;

  private constructor(
    file: RandomAccessFile,
    lists: ReadonlyMap<string, { offset: number; length: number }>,
  ) {
    this.#file = file;
    this.#lists = lists;
  }

  /** @throws TOKEN_INVALID (`malformed`), IO_FAILED */
  static async open(file: RandomAccessFile): Promise<SumsFile> {
    const head = Buffer.alloc(HEAD_BYTES);
    const whole = (await file.read(head, 0)) === HEAD_BYTES && head.subarray(0, 8).equals(MAGIC);
    if (!whole) throw damaged(file.path, 'it holds no sums');
    if (head.readUInt32LE(8) !== VERSION) throw damaged(file.path, 'it is of another version');
    const count = head.readUInt32LE(12);
    if (count > MAX_LISTS || HEAD_BYTES + count * ENTRY_BYTES > file.size())
      throw damaged(file.path, 'it was cut off');
    const table = Buffer.alloc(count * ENTRY_BYTES);
    await file.read(table, HEAD_BYTES);
    const lists = new Map<string, { offset: number; length: number }>();
    for (let at = 0; at < table.length; at += ENTRY_BYTES) {
      const offset = toSafeNumber(table.readBigUInt64LE(at + 32));
      const length = toSafeNumber(table.readBigUInt64LE(at + 40));
      if (offset === undefined || length === undefined || offset + length > file.size())
        throw damaged(file.path, 'a list lies outside it');
      lists.set(table.toString('hex', at, at + 32), { offset, length });
    }
    return new SumsFile(file, lists);
  }

  /**
   * The list of a token, verified.
   * @throws TOKEN_INVALID (`malformed`: not there, or not what the token says), IO_FAILED
   */
  async list(fields: AuxiliaryFields): Promise<SumList> {
    const file = this.#file;
    const found = this.#lists.get(Buffer.from(fields.listDigest).toString('hex'));
    const length = listBytes(fields);
    if (!found || found.length !== length) throw damaged(file.path, 'a list that a token names is not there');
    const hash = createHash('sha256');
    const buffer = new Uint8Array(Math.min(READ_BUFFER, length));
    for (let at = 0; at < length; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, length - at));
      hash.update(part.subarray(0, await file.read(part, found.offset + at)));
    }
    if (Buffer.compare(hash.digest(), fields.listDigest) !== 0)
      throw damaged(file.path, 'a list is not the one that its token names');
    const each = SUM_BYTES[fields.kind];
    return {
      async read(first, end) {
        const bytes = new Uint8Array((end - first) * each);
        const count = await file.read(bytes, found.offset + first * each);
        if (count < bytes.length) throw damaged(file.path, 'it was cut off');
        return bytes;
      },
    };
  }
}

/**
 * The list of a token, wherever it is.
 * @param file what lies beside the tokens; undefined when nothing does
 * @throws TOKEN_INVALID (`malformed`), IO_FAILED
 */
export async function listOf(
  fields: AuxiliaryFields,
  file: SumsFile | undefined,
  path: string,
): Promise<SumList> {
  const { list } = fields;
  if (!list) {
    if (!file) throw damaged(path, 'it is missing, which has the sums of the data');
    return file.list(fields);
  }
  const each = SUM_BYTES[fields.kind];
  return { read: async (first, end) => list.subarray(first * each, end * each) };
}

/**
 * The journal of a repair: what bytes of a file were before they were changed.
 *
 * A text file of one JSON object per line, so that it can be read without this program: a head with the
 * file's name and length, then one line for each range that was saved, in the order in which they were.
 * Binary content is base64, with its CRC-32C; ranges of zeros say so. Further lines are notes.
 *
 * Invariants: a range is in the journal, durably, before the first byte of it is changed; no byte is saved
 * twice, so all ranges together show the file as it was. A last line that is torn protected nothing yet.
 */
import { crc32c } from '../base/crc32c.js';
import { VhdkitError } from '../base/errors.js';
import { isZero } from '../base/zeros.js';
import type { FileSystem } from './file-system.js';
import type { RandomAccessFile } from './random-access-file.js';

/** Bytes of a file that one line holds at most. */
const LINE_BYTES = 512 * 1024;
/** Bytes of the journal that are read at a time. */
const READ_BYTES = 1024 * 1024;
/** Longest line accepted: base64 of `LINE_BYTES`, and the rest of the line. */
const MAX_LINE = 2 * LINE_BYTES;

/** The first line. */
export interface BackupHead {
  vhdkitBackup: 1;
  /** The file's name, without folders. */
  image: string;
  /** Its length in bytes. */
  size: number;
  /** ISO 8601. */
  created: string;
}

/** What was at a place. Bytes. */
export interface SavedRange {
  offset: number;
  length: number;
  /** Base64; absent for zeros. */
  bytes?: string;
  crc?: number;
}

/** Any line but the first. */
export type BackupLine = SavedRange | Readonly<Record<string, unknown>>;

export function isSavedRange(line: BackupLine): line is SavedRange {
  return typeof line.offset === 'number' && typeof line.length === 'number';
}

/** The bytes of a saved range. @throws IMAGE_CORRUPT when they are not what was saved */
export function savedBytes(range: SavedRange, path: string): Uint8Array {
  if (range.bytes === undefined) return new Uint8Array(Math.min(range.length, LINE_BYTES));
  const bytes = Buffer.from(range.bytes, 'base64');
  if (bytes.length === range.length && crc32c(bytes) === range.crc) return bytes;
  throw damaged(path, `what it saved of offset ${range.offset} is damaged`);
}

export function damaged(path: string, message: string): VhdkitError {
  return new VhdkitError('IMAGE_CORRUPT', `${path}: ${message}`, {
    operation: 'read backup',
    context: { path },
    hint: 'It must be the file that `check --repair` wrote, unchanged. Nothing was restored.',
  });
}

/** A journal that is being written. */
export class BackupJournal {
  readonly #file: RandomAccessFile;
  #end: number;

  private constructor(file: RandomAccessFile) {
    this.#file = file;
    this.#end = file.size();
  }

  /** Makes the journal; durable when it returns. @throws ALREADY_EXISTS, NO_SPACE, IO_FAILED */
  static async create(fileSystem: FileSystem, path: string, head: BackupHead): Promise<BackupJournal> {
    const pending = await fileSystem.createPending(path);
    try {
      await pending.file.write(lineBytes(head), 0);
      await pending.publish();
    } catch (error) {
      await pending.discard();
      throw error;
    }
    return new BackupJournal(await fileSystem.open(path, { writable: true }));
  }

  get path(): string {
    return this.#file.path;
  }

  /** Saves `[from, to)` of a file. Durable when it returns. @throws NO_SPACE, IO_FAILED */
  async save(source: RandomAccessFile, from: number, to: number): Promise<void> {
    for (let at = from; at < to; ) {
      const data = source.nextData(at, to);
      const hole = (data?.offset ?? to) - at;
      if (hole > 0) {
        await this.#append({ offset: at, length: hole });
        at += hole;
        continue;
      }
      const length = Math.min(LINE_BYTES, to - at, data?.length ?? LINE_BYTES);
      const bytes = new Uint8Array(length);
      await source.read(bytes, at);
      await this.#append(rangeLine(at, bytes));
      at += length;
    }
    await this.#file.flush();
  }

  /** Adds a line that is no range. Durable when it returns. @throws NO_SPACE, IO_FAILED */
  async note(line: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#append(line);
    await this.#file.flush();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #append(line: BackupLine): Promise<void> {
    const bytes = lineBytes(line);
    await this.#file.write(bytes, this.#end);
    this.#end += bytes.length;
  }
}

function rangeLine(offset: number, bytes: Uint8Array): SavedRange {
  if (isZero(bytes)) return { offset, length: bytes.length };
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
  return { offset, length: bytes.length, crc: crc32c(bytes), bytes: text };
}

function lineBytes(line: object): Uint8Array {
  return Buffer.from(`${JSON.stringify(line)}\n`, 'utf8');
}

/** The lines of a journal, the head first. One at a time in memory; a last one without its end is left out. */
export async function* backupLines(journal: RandomAccessFile): AsyncGenerator<BackupLine, void, undefined> {
  let rest = Buffer.alloc(0);
  for (let at = 0; ; ) {
    const buffer = Buffer.alloc(READ_BYTES);
    const count = await journal.read(buffer, at);
    if (count === 0) return;
    at += count;
    rest = Buffer.concat([rest, buffer.subarray(0, count)]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      if (end > 0) yield parsed(rest.subarray(0, end));
      rest = rest.subarray(end + 1);
    }
    if (rest.length > MAX_LINE) throw damaged(journal.path, 'is no backup of a repair');
  }
}

/** A line that is no JSON is `torn`: a write that a crash cut short, or damage. */
function parsed(line: Uint8Array): BackupLine {
  try {
    const value: unknown = JSON.parse(Buffer.from(line).toString('utf8'));
    if (typeof value === 'object' && value !== null) return value as BackupLine;
  } catch {
    // Falls through: not JSON.
  }
  return { torn: true };
}

/** The head of a journal. @throws IMAGE_CORRUPT when the file is no journal */
export async function readHead(journal: RandomAccessFile): Promise<BackupHead> {
  for await (const line of backupLines(journal)) {
    const { vhdkitBackup, image, size, created } = line as Readonly<Record<string, unknown>>;
    if (vhdkitBackup !== 1 || typeof image !== 'string') break;
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) break;
    return { vhdkitBackup, image, size, created: String(created) };
  }
  throw damaged(journal.path, 'is no backup of a repair');
}

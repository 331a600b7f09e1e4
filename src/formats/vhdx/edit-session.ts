/**
 * One session of changing an image: what happens before the first change, at each flush, and at the end.
 *
 * Invariant: nothing is written before `begin`. With the first change the image gets a new FileWriteGuid, and
 * before the first one that guests can see a new DataWriteGuid (MS-VHDX 2.2.2); an image whose log holds
 * changes has them replayed into its file first (2.3.3).
 *
 * The log stays marked as in use from the first change of metadata to `close`: a flush costs two flushes of
 * the file, not six. Whoever opens the image meanwhile, or after a crash, replays the newest entry.
 */
import { assert } from '../../base/assert.js';
import { MiB } from '../../base/bytes.js';
import { NIL_GUID } from '../../base/guid.js';
import { randomGuid } from '../../base/random.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import type { WriteAccess } from '../editable-image.js';
import type { SpaceAllocator } from './allocator.js';
import { type HeaderChange, HeaderWriter } from './header-writer.js';
import type { LogUpdate } from './log-codec.js';
import { LogWriter, reserveLog } from './log-writer.js';
import type { VhdxStructures } from './open.js';

/** What a change means for DataWriteGuid: whether reading the disk can give another answer after it. */
export type ChangeKind = 'visible' | 'invisible';

/** Where changes of metadata go: an existing image's log, or a new image's tables. */
export interface MetadataSink {
  readonly dataWriteGuid: string;
  /** Before anything of the file is changed. */
  begin(kind: ChangeKind): Promise<void>;
  /** Makes all updates or none of them, after everything else in the file is durable. */
  write(updates: readonly LogUpdate[]): Promise<void>;
  /**
   * Everything written is durable, and the image complete, when it returns.
   * @param hasWritten `write` was called since anything else was changed
   */
  flush(hasWritten: boolean): Promise<void>;
  /** Cuts off what lies behind everything in use; answers the bytes. Durable. */
  shorten(): Promise<number>;
  close(): Promise<void>;
}

export class EditSession implements MetadataSink {
  readonly #file: RandomAccessFile;
  readonly #access: WriteAccess;
  readonly #space: SpaceAllocator;
  readonly #headers: HeaderWriter;
  readonly #onReplayed: () => void;
  #overlay: VhdxStructures['overlay'];
  /** Where the image has a log; the file reaches to its end. */
  #place: ByteRange | undefined;
  #started = false;
  #changedData = false;
  #log: LogWriter | undefined;

  /** @param onReplayed called when the file itself has what the log held */
  constructor(
    structures: VhdxStructures,
    access: WriteAccess,
    space: SpaceAllocator,
    onReplayed: () => void,
  ) {
    this.#file = structures.file;
    this.#access = access;
    this.#space = space;
    this.#headers = new HeaderWriter(structures.file, structures.header, structures.headerOffset);
    this.#onReplayed = onReplayed;
    this.#overlay = structures.overlay;
    const { log } = structures;
    this.#place = log && log.offset + log.length <= structures.file.size() ? log : undefined;
  }

  get dataWriteGuid(): string {
    return this.#headers.header.dataWriteGuid;
  }

  async begin(kind: ChangeKind): Promise<void> {
    const makesVisible = kind === 'visible' && !this.#changedData;
    if (this.#started && !makesVisible) return;
    const { random, nextLinkId } = this.#access;
    const change: HeaderChange = {};
    let place = this.#place;
    // What is rearranged can be done again: compacting must not need room first.
    if (makesVisible && place) await reserveLog(this.#file, place);
    if (makesVisible) change.dataWriteGuid = nextLinkId ?? randomGuid(random);
    if (!this.#started) {
      change.fileWriteGuid = randomGuid(random);
      if (this.#overlay) await this.#replay(this.#overlay, change.fileWriteGuid);
      change.logVersion = 0;
      change.logGuid = NIL_GUID;
      place ??= await this.#newLog();
      change.logOffset = BigInt(place.offset);
      change.logLength = place.length;
    }
    await this.#headers.update(change);
    this.#place = place;
    this.#started = true;
    this.#changedData ||= makesVisible;
    if (this.#overlay) this.#onReplayed();
    this.#overlay = undefined;
  }

  async write(updates: readonly LogUpdate[]): Promise<void> {
    assert(this.#started, 'a session begins before it writes');
    this.#log ??= new LogWriter(this.#file, this.#headers, this.#access.random);
    await this.#log.write(updates, this.#space.end);
  }

  /** Writing an entry made all before it durable; its own changes are so by the log. */
  async flush(hasWritten: boolean): Promise<void> {
    if (this.#started && !hasWritten) await this.#file.flush();
  }

  /** Marks the log as empty, then gives back what lies behind everything in use. Not the file's closing. */
  async close(): Promise<void> {
    if (this.#started) await this.shorten();
  }

  /** A log in use says how long the file is at least: it is emptied first (MS-VHDX 2.3.3). */
  async shorten(): Promise<number> {
    await this.begin('invisible');
    await this.#log?.close();
    const before = this.#file.size();
    if (before > this.#space.end) await this.#file.truncate(this.#space.end);
    await this.#file.flush();
    return before - this.#file.size();
  }

  /** The log keeps its GUID until everything is in place: a crash half-way is replayed again. */
  async #replay(overlay: NonNullable<VhdxStructures['overlay']>, fileWriteGuid: string): Promise<void> {
    await this.#headers.update({ fileWriteGuid });
    await overlay.writeInto(this.#file);
    await this.#file.flush();
  }

  /** Images without a log (they are legal as long as nobody writes) get one at the end. */
  async #newLog(): Promise<ByteRange> {
    const place = { offset: await this.#space.claim(MiB, true), length: MiB };
    try {
      await reserveLog(this.#file, place);
      await this.#file.flush();
    } catch (error) {
      this.#space.unclaim(place.offset, place.length);
      throw error;
    }
    return place;
  }
}

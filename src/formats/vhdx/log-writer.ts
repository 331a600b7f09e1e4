/**
 * Changing metadata through the log (MS-VHDX 2.3): entry, flush, then the changes in their places.
 *
 * Invariants:
 * - At most one entry is not yet durable in its place: every entry is its own sequence (its tail is itself),
 *   and the flush that makes data durable before the next one is written does the same for the changes of
 *   this one. Replay of the newest complete entry is therefore always right, and enough.
 * - Entries alternate between the two halves of the ring, so that none is written over the newest complete
 *   one and none wraps round the end (qemu misreads wrapped entries).
 * - An entry has at most 126 descriptors: qemu reads no more than fit into the first sector.
 * - What entries are written to has storage before anything is changed (`reserveLog`): what was accepted can be made
 *   durable on full storage, too, and space be given back there.
 * - LogGuid is installed only after the first entry with it is durable: a header that names a log without a
 *   valid entry makes an image that can't be opened (2.3.3). Before, the log is empty (LogGuid zero) and
 *   nobody looks at what is in it.
 *
 * Not here: which pages change.
 */
import { assert } from '../../base/assert.js';
import { MiB, roundDown, roundUp } from '../../base/bytes.js';
import { NIL_GUID } from '../../base/guid.js';
import { type RandomSource, randomGuid } from '../../base/random.js';
import type { ByteRange, RandomAccessFile } from '../../io/random-access-file.js';
import type { HeaderWriter } from './header-writer.js';
import { descriptorSectors, encodeLogEntry, LOG_SECTOR, type LogUpdate } from './log-codec.js';

/** Changes that one entry holds. */
export const MAX_UPDATES = 126;
const LONGEST_ENTRY = (descriptorSectors(MAX_UPDATES) + MAX_UPDATES) * LOG_SECTOR;

/**
 * Gives storage to those parts of a log that entries are written to; what is in it stays as it is. In a sparse file a log
 * that was never written is a hole. Storage that does not overwrite in place (btrfs, extents shared with another
 * file) may need more all the same.
 * @throws NO_SPACE, IO_FAILED
 */
export async function reserveLog(file: RandomAccessFile, log: ByteRange): Promise<void> {
  const half = log.length / 2;
  const length = Math.min(half, LONGEST_ENTRY);
  for (const offset of [log.offset, log.offset + half]) await file.allocate?.(offset, length);
}

export class LogWriter {
  readonly #file: RandomAccessFile;
  readonly #headers: HeaderWriter;
  readonly #random: RandomSource;
  #logGuid: string;
  /** Half of the ring that the next entry goes to. */
  #half = 0;
  #sequence = 1n;
  /** Changes of the newest entry when they could not be put into their places. */
  #unapplied: readonly LogUpdate[] | undefined;

  /** The header names a log of at least 1 MiB, which is empty. */
  constructor(file: RandomAccessFile, headers: HeaderWriter, random: RandomSource) {
    this.#file = file;
    this.#headers = headers;
    this.#random = random;
    this.#logGuid = randomGuid(random);
    assert(headers.header.logGuid === NIL_GUID, 'the log is empty before it is written');
  }

  get #isInstalled(): boolean {
    return this.#headers.header.logGuid === this.#logGuid;
  }

  /**
   * Makes the updates, all or none of them. Durable, by way of the log, when it returns.
   * @param lastFileOffset end of the last structure or block, bytes
   * @throws IO_FAILED, NO_SPACE
   */
  async write(updates: readonly LogUpdate[], lastFileOffset: number): Promise<void> {
    assert(updates.length <= MAX_UPDATES, 'a log entry holds 126 changes');
    if (this.#unapplied) await this.#apply(this.#unapplied);
    // What the updates name, and what the entry before this one changed.
    await this.#file.flush();
    const { logOffset, logLength } = this.#headers.header;
    const position = (this.#half * logLength) / 2;
    const bytes = encodeLogEntry({
      logGuid: this.#logGuid,
      sequence: this.#sequence,
      tail: position,
      flushedFileOffset: roundDown(this.#file.size(), MiB),
      lastFileOffset: roundUp(lastFileOffset, MiB),
      updates,
    });
    assert(bytes.length <= logLength / 2, 'an entry fits into half of the log');
    this.#sequence += 1n;
    await this.#file.write(bytes, Number(logOffset) + position);
    await this.#file.flush();
    // From here on this entry is the one that counts: the next goes to the other half.
    this.#half = 1 - this.#half;
    if (!this.#isInstalled) await this.#headers.update({ logGuid: this.#logGuid });
    await this.#apply(updates);
  }

  /**
   * Makes what was written last durable in its place, and marks the log as empty.
   * @throws IO_FAILED; the log then stays in use, and whoever opens the image replays it
   */
  async close(): Promise<void> {
    if (this.#unapplied) await this.#apply(this.#unapplied);
    if (!this.#isInstalled) return;
    await this.#file.flush();
    await this.#headers.update({ logGuid: NIL_GUID });
    // What the log held is of the past, should it be used again.
    this.#logGuid = randomGuid(this.#random);
  }

  async #apply(updates: readonly LogUpdate[]): Promise<void> {
    this.#unapplied = updates;
    await applyUpdates(this.#file, updates);
    this.#unapplied = undefined;
  }
}

/** Puts the changes into their places; neighbouring pages in one write. Not flushed. */
export async function applyUpdates(file: RandomAccessFile, updates: readonly LogUpdate[]): Promise<void> {
  let run: { offset: number; pages: Uint8Array[] } | undefined;
  const finish = async (): Promise<void> => {
    if (run) await file.write(Buffer.concat(run.pages), run.offset);
    run = undefined;
  };
  for (const update of updates) {
    if ('zeros' in update) {
      await finish();
      await file.zero(update.offset, update.zeros);
    } else if (run && run.offset + run.pages.length * LOG_SECTOR === update.offset) {
      run.pages.push(update.page);
    } else {
      await finish();
      run = { offset: update.offset, pages: [update.page] };
    }
  }
  await finish();
}

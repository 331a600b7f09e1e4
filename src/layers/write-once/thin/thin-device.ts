/**
 * A write-once device that keeps chunks one after the other in a compact file, with a map that says which lies where.
 *
 * Invariants: several writers of a chunk, also in several processes, each have a slot of their own; the map takes the
 * first to be sealed, in one transaction, and the others have lost and give their slots back. Data is flushed
 * before the map names it. Chunks sealed together share a flush and a transaction.
 */
import { VhdkitError } from '../../../base/errors.js';
import { GroupCommit } from '../../../base/group-commit.js';
import type { ChunkPlace, ChunkWrite, WriteOnceDevice } from '../../../block/write-once-device.js';
import type { Claims } from '../../../io/claims.js';
import type { LmdbMap } from '../../../io/lmdb-map.js';
import type { RandomAccessFile } from '../../../io/random-access-file.js';
import { assertChunk, sealEach } from '../device-parts.js';
import { chunkLength, type WriteOnceShape, writeOnceCorrupt } from '../shape.js';
import { SoundFile } from '../sound-file.js';
import { FIRST_SLOT } from './header.js';
import { type SlotPool, slotCount } from './slots.js';

const LISTED_AT_A_TIME = 1024;

/** What a device that may be written to has besides. */
export interface ThinWriter {
  claims: Claims;
  slots: SlotPool;
}

interface Filled {
  chunk: number;
  slot: number;
  end: 'written' | 'lost';
}

export class ThinWriteOnceDevice implements WriteOnceDevice {
  readonly kind = 'thin';
  readonly label: string;
  readonly size: number;
  readonly chunkSize: number;
  readonly primaryId: string;
  readonly #file: SoundFile;
  readonly #map: LmdbMap;
  readonly #writer: ThinWriter | undefined;
  readonly #mapBytes: () => Promise<number>;
  readonly #open = new Set<ChunkWrite>();
  readonly #seals = new GroupCommit<Filled>(async (batch) => {
    await this.#file.flush();
    this.#enter(batch);
  });

  /** Without `writer` for reading only. The device owns all it is given. `mapBytes`: storage that the map takes. */
  constructor(
    file: RandomAccessFile,
    map: LmdbMap,
    shape: WriteOnceShape,
    writer: ThinWriter | undefined,
    mapBytes: () => Promise<number>,
  ) {
    this.label = file.path;
    this.size = shape.size;
    this.chunkSize = shape.chunkSize;
    this.primaryId = shape.primaryId;
    this.#file = new SoundFile(file);
    this.#map = map;
    this.#writer = writer;
    this.#mapBytes = mapBytes;
  }

  async isWritten(chunk: number): Promise<boolean> {
    return (await this.locate(chunk)) !== undefined;
  }

  async locate(chunk: number): Promise<ChunkPlace | undefined> {
    assertChunk(this, chunk);
    const found = this.#map.read((view) => ({ slot: view.get('chunks', chunk), slots: slotCount(view) }));
    if (found.slot === undefined) return undefined;
    const place = this.#place(chunk, found.slot);
    if (found.slot >= found.slots || place.fileOffset + place.length > place.file.size()) {
      throw writeOnceCorrupt('WRITE_ONCE_CUT_OFF', `chunk ${chunk} lies behind the end of the file`, {
        path: this.label,
        offset: place.fileOffset,
      });
    }
    return place;
  }

  async begin(chunk: number): Promise<ChunkWrite | 'written'> {
    const writer = this.#writer;
    if (!writer)
      throw new VhdkitError('READ_ONLY', `${this.label} is open for reading only`, {
        operation: 'write chunk',
        context: { path: this.label },
      });
    if (await this.isWritten(chunk)) return 'written';
    return this.#write(chunk, writer.slots.take(), writer.slots);
  }

  sealAll(writes: readonly ChunkWrite[]): Promise<('written' | 'lost')[]> {
    return sealEach(writes);
  }

  async *written(): AsyncGenerator<number> {
    for (let after = -1; ; ) {
      const batch = this.#map.read((view) => view.entries('chunks', after, LISTED_AT_A_TIME));
      for (const [chunk] of batch) yield chunk;
      after = batch.at(-1)?.[0] ?? after;
      if (batch.length < LISTED_AT_A_TIME) return;
    }
  }

  async allocatedBytes(): Promise<number> {
    return (await this.#file.file.allocatedBytes()) + (await this.#mapBytes());
  }

  async close(): Promise<void> {
    try {
      for (const write of this.#open) await write.abandon();
      await this.#seals.idle();
      this.#writer?.slots.close();
    } finally {
      await this.#map.close();
      await this.#writer?.claims.close();
      await this.#file.file.close();
    }
  }

  #place(chunk: number, slot: number): ChunkPlace {
    const fileOffset = FIRST_SLOT + slot * this.chunkSize;
    return { file: this.#file.file, fileOffset, length: chunkLength(this, chunk) };
  }

  #write(chunk: number, slot: number, slots: SlotPool): ChunkWrite {
    const place = this.#place(chunk, slot);
    let open = true;
    const giveBack = async (): Promise<void> => {
      await place.file.punch?.(place.fileOffset, place.length).catch(() => false);
      slots.giveBack(slot);
    };
    const write: ChunkWrite = {
      place,
      seal: async () => {
        open = false;
        this.#open.delete(write);
        const end = await this.#seal(chunk, slot).catch(async (error: unknown) => {
          await giveBack();
          throw error;
        });
        if (end === 'lost') await giveBack();
        return end;
      },
      abandon: async () => {
        if (!open) return;
        open = false;
        this.#open.delete(write);
        await giveBack();
      },
    };
    this.#open.add(write);
    return write;
  }

  async #seal(chunk: number, slot: number): Promise<'written' | 'lost'> {
    const filled: Filled = { chunk, slot, end: 'lost' };
    await this.#seals.add(filled);
    return filled.end;
  }

  #enter(batch: readonly Filled[]): void {
    this.#map.change((change) => {
      for (const filled of batch) {
        const { chunk, slot } = filled;
        if (change.get('chunks', chunk) !== undefined) continue;
        change.put('chunks', chunk, slot);
        change.remove('held', slot);
        filled.end = 'written';
      }
    });
  }
}

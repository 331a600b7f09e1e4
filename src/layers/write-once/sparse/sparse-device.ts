/**
 * A write-once device in one sparse file (or on a block device): the primary's addresses behind a map.
 *
 * Invariants: a chunk's place is fixed, so whoever writes it must be the only one: `begin` claims the chunk, between
 * processes too, until it is sealed or abandoned, and a second writer waits for that and finds it written. Hence
 * `seal` never answers `lost` here. A process that is killed leaves its chunks unwritten, whatever lies in their places;
 * those who write them next write them whole.
 */
import { VhdkitError } from '../../../base/errors.js';
import { systemTimer, type Timer } from '../../../base/timer.js';
import type { ChunkPlace, ChunkWrite, WriteOnceDevice } from '../../../block/write-once-device.js';
import type { Claims, Release } from '../../../io/claims.js';
import type { RandomAccessFile } from '../../../io/random-access-file.js';
import { assertChunk, sealEach } from '../device-parts.js';
import { chunkLength } from '../shape.js';
import { SoundFile } from '../sound-file.js';
import type { SparseLayout } from './layout.js';
import { PresenceMap } from './presence-map.js';
import { SealQueue } from './seal-queue.js';

export class SparseWriteOnceDevice implements WriteOnceDevice {
  readonly kind = 'sparse';
  readonly label: string;
  readonly size: number;
  readonly chunkSize: number;
  readonly primaryId: string;
  readonly #file: SoundFile;
  readonly #layout: SparseLayout;
  readonly #claims: Claims | undefined;
  readonly #map: PresenceMap;
  readonly #queue: SealQueue;

  /** Without `claims` for reading only. The device owns file and claims. */
  constructor(
    file: RandomAccessFile,
    layout: SparseLayout,
    claims: Claims | undefined,
    timer: Timer = systemTimer,
  ) {
    this.label = file.path;
    this.size = layout.size;
    this.chunkSize = layout.chunkSize;
    this.primaryId = layout.primaryId;
    this.#file = new SoundFile(file);
    this.#layout = layout;
    this.#claims = claims;
    const pause = (milliseconds: number) => timer.sleep(milliseconds);
    this.#map = new PresenceMap(this.#file, layout, claims, pause);
    this.#queue = new SealQueue(this.#file, this.#map, pause);
  }

  async isWritten(chunk: number): Promise<boolean> {
    assertChunk(this, chunk);
    this.#file.assertSound();
    return this.#map.has(chunk);
  }

  async locate(chunk: number): Promise<ChunkPlace | undefined> {
    return (await this.isWritten(chunk)) ? this.#place(chunk) : undefined;
  }

  async begin(chunk: number): Promise<ChunkWrite | 'written'> {
    if (!this.#claims)
      throw new VhdkitError('READ_ONLY', `${this.label} is open for reading only`, {
        operation: 'write chunk',
        context: { path: this.label },
      });
    if (await this.isWritten(chunk)) return 'written';
    const release = await this.#claims.take(chunk);
    try {
      if (await this.isWritten(chunk)) {
        release();
        return 'written';
      }
    } catch (error) {
      release();
      throw error;
    }
    return this.#write(chunk, release);
  }

  sealAll(writes: readonly ChunkWrite[]): Promise<('written' | 'lost')[]> {
    return sealEach(writes);
  }

  written(): AsyncIterable<number> {
    this.#file.assertSound();
    return this.#map.written();
  }

  allocatedBytes(): Promise<number> {
    return this.#file.file.allocatedBytes();
  }

  async close(): Promise<void> {
    await this.#queue.idle();
    await this.#claims?.close();
    await this.#file.file.close();
  }

  #place(chunk: number): ChunkPlace {
    return {
      file: this.#file.file,
      fileOffset: this.#layout.dataOffset + chunk * this.chunkSize,
      length: chunkLength(this, chunk),
    };
  }

  #write(chunk: number, release: Release): ChunkWrite {
    const place = this.#place(chunk);
    let open = true;
    const end = async (): Promise<void> => {
      if (!open) return;
      open = false;
      // What was put there is nobody's; that it can't be given back everywhere does no harm.
      await place.file.punch?.(place.fileOffset, place.length).catch(() => false);
      release();
    };
    return {
      place,
      seal: async () => {
        try {
          await this.#queue.seal(chunk);
          open = false;
          release();
          return 'written';
        } catch (error) {
          await end();
          throw error;
        }
      },
      abandon: end,
    };
  }
}

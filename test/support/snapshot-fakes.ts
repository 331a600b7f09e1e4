/**
 * A write-once device in memory and a disk over a file, both with requests that take their time: for tests of
 * snapshots without files.
 */
import { systemClock } from '../../src/base/clock.js';
import { VhdkitError } from '../../src/base/errors.js';
import { GroupCommit } from '../../src/base/group-commit.js';
import { systemRandom } from '../../src/base/random.js';
import type { BlockDevice, DeviceExtent } from '../../src/block/block-device.js';
import type { ChunkPlace, ChunkWrite, WriteOnceDevice } from '../../src/block/write-once-device.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';
import type { FailurePolicy } from '../../src/layers/failure-policy.js';
import { SnapshotLayer } from '../../src/layers/snapshot/catalogue.js';
import { SnapshotVolume } from '../../src/layers/snapshot/snapshot-volume.js';
import { CopyAndWriter } from '../../src/offload/copy-and-write.js';
import { overriding } from './overriding.js';

/** Lets other work go on, for as many turns as it says. */
export type Delay = () => Promise<void>;

export const noDelay: Delay = async () => undefined;

/** A file whose requests take as long as `delay` says. */
function slowFile(file: RandomAccessFile, delay: Delay): RandomAccessFile {
  const read = async (buffer: Uint8Array, offset: number): Promise<number> => {
    await delay();
    return file.read(buffer, offset);
  };
  const write = async (bytes: Uint8Array, offset: number): Promise<void> => {
    await delay();
    await file.write(bytes, offset);
  };
  return overriding(file, { read, write });
}

export interface FakeWriteOnceOptions {
  delay?: Delay;
  /** Chunks that it has room for. */
  room?: number;
}

export class FakeWriteOnce implements WriteOnceDevice {
  readonly kind = 'sparse';
  readonly label: string;
  readonly size: number;
  readonly chunkSize: number;
  readonly primaryId = 'primary';
  readonly file: RandomAccessFile;
  /** Chunks sealed, by flushes. */
  readonly groups: number[] = [];
  closed = false;
  room: number;
  readonly #written = new Set<number>();
  readonly #seals = new GroupCommit<FakeChunkWrite>((writes) => this.#seal(writes));
  readonly #delay: Delay;

  constructor(label: string, size: number, chunkSize: number, options: FakeWriteOnceOptions = {}) {
    this.label = label;
    this.size = size;
    this.chunkSize = chunkSize;
    this.#delay = options.delay ?? noDelay;
    this.file = slowFile(new MemoryFile(), this.#delay);
    this.room = options.room ?? Number.POSITIVE_INFINITY;
  }

  async isWritten(chunk: number): Promise<boolean> {
    this.#assertOpen();
    await this.#delay();
    return this.#written.has(chunk);
  }

  async locate(chunk: number): Promise<ChunkPlace | undefined> {
    this.#assertOpen();
    await this.#delay();
    return this.#written.has(chunk) ? this.#place(chunk) : undefined;
  }

  async begin(chunk: number): Promise<ChunkWrite | 'written'> {
    this.#assertOpen();
    await this.#delay();
    if (this.#written.has(chunk)) return 'written';
    if (this.room <= 0) {
      throw new VhdkitError('NO_SPACE', `${this.label} is full`, { context: { path: this.label } });
    }
    this.room -= 1;
    const write: FakeChunkWrite = {
      chunk,
      place: this.#place(chunk),
      seal: async () => {
        const isLost = this.#written.has(chunk);
        await this.#seals.add(write);
        return isLost ? 'lost' : 'written';
      },
      abandon: async () => {
        this.room += 1;
      },
    };
    return write;
  }

  sealAll(writes: readonly ChunkWrite[]): Promise<('written' | 'lost')[]> {
    return Promise.all(writes.map((write) => write.seal()));
  }

  async *written(): AsyncGenerator<number> {
    for (const chunk of [...this.#written].sort((a, b) => a - b)) {
      this.#assertOpen();
      yield chunk;
    }
  }

  async allocatedBytes(): Promise<number> {
    return this.#written.size * this.chunkSize;
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  async #seal(writes: readonly FakeChunkWrite[]): Promise<void> {
    this.#assertOpen();
    await this.#delay();
    this.groups.push(writes.length);
    for (const { chunk } of writes) this.#written.add(chunk);
  }

  #place(chunk: number): ChunkPlace {
    const fileOffset = chunk * this.chunkSize;
    return { file: this.file, fileOffset, length: Math.min(this.chunkSize, this.size - fileOffset) };
  }

  #assertOpen(): void {
    if (this.closed) throw new Error(`${this.label} is closed`);
  }
}

interface FakeChunkWrite extends ChunkWrite {
  readonly chunk: number;
}

/** A disk over a file whose requests take as long as `delay` says, in no order. */
export class SlowDisk implements BlockDevice {
  readonly label = 'disk';
  readonly size: number;
  readonly blockSize = 1;
  readonly preferredSize = 4096;
  readonly capabilities = {
    writable: true,
    trim: true,
    zero: true,
    fastZero: true,
    extents: true,
    multiConn: true,
  };
  readonly file: RandomAccessFile;
  readonly #delay: Delay;

  constructor(file: RandomAccessFile, delay: Delay = noDelay) {
    this.file = file;
    this.size = file.size();
    this.#delay = delay;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    await this.#delay();
    await this.file.read(buffer, offset);
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#delay();
    await this.file.write(bytes, offset);
    await this.#delay();
  }

  writeNow(bytes: Uint8Array, offset: number): boolean {
    // In memory all of it is done before a promise is answered.
    void this.file.write(bytes, offset);
    return true;
  }

  async zero(offset: number, length: number): Promise<void> {
    await this.#delay();
    await this.file.zero(offset, length);
  }

  trim(offset: number, length: number): Promise<void> {
    return this.zero(offset, length);
  }

  flush(): Promise<void> {
    return this.file.flush();
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    return [{ offset, length, hole: false, zero: false }];
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

export interface FakeVolume {
  volume: SnapshotVolume;
  file: RandomAccessFile;
  copier: CopyAndWriter;
  broken: string[];
  /** Adds a snapshot with a device of its own. */
  snapshot(name: string, options?: FakeWriteOnceOptions): SnapshotLayer;
}

export function fakeVolume(
  content: Uint8Array,
  chunkSize: number,
  { delay = noDelay, policy = 'fail-writes' as FailurePolicy } = {},
): FakeVolume {
  const file = new MemoryFile(content, 'disk.img');
  const copier = new CopyAndWriter({ clock: systemClock, random: systemRandom });
  const broken: string[] = [];
  const volume: SnapshotVolume = new SnapshotVolume({
    primary: new SlowDisk(file, delay),
    file: slowFile(file, delay),
    chunkSize,
    layers: [],
    copier,
    recordBroken: async (layer) => {
      broken.push(layer.name);
    },
    beforeFirstChange: async () => undefined,
    close: () => volume.shut(),
  });
  return {
    volume,
    file,
    copier,
    broken,
    snapshot(name, options = {}) {
      const device = new FakeWriteOnce(name, content.length, chunkSize, { delay, ...options });
      const layer = new SnapshotLayer({ id: name, name, policy }, device);
      volume.addSnapshot(layer);
      return layer;
    },
  };
}

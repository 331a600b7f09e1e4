/**
 * A disk with snapshots: what is written to it first saves what snapshots need (US 8,281,096, 9,405,709).
 *
 * Invariants: a snapshot is one moment: writes that had begun before `addSnapshot` are in it when they end, later
 * ones are not. No request waits for a drain; only who makes the snapshot does, because until then it may change.
 * Reads of the disk itself cost nothing extra; writes to chunks that are covered go straight through, at once where
 * the primary can do that.
 *
 * Not here: where devices lie and what survives a restart (store.ts); who may do what when
 * (snapshot-set.ts).
 */
import { assert } from '../../base/assert.js';
import { VhdkitError } from '../../base/errors.js';
import type {
  BlockDevice,
  DeviceCapabilities,
  DeviceExtent,
  DeviceWriteOptions,
  DeviceZeroOptions,
} from '../../block/block-device.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CopyAndWriter } from '../../offload/copy-and-write.js';
import { Catalogue, type Epoch, type Geometry, type SnapshotLayer } from './catalogue.js';
import { ChunkReader } from './chunk-reader.js';
import { Keeper, type Overwrite } from './keeper.js';
import { RestoreRun, type SettledChunks } from './restore-run.js';

export interface SnapshotVolumeParts {
  /** The disk; closed with the volume. */
  primary: BlockDevice;
  /** Its bytes as they lie: offsets are those of the disk. Not closed. */
  file: RandomAccessFile;
  /** That of every layer. */
  chunkSize: number;
  /** Oldest first. */
  layers: readonly SnapshotLayer[];
  copier: CopyAndWriter;
  /** Records durably that a layer is broken. */
  recordBroken(layer: SnapshotLayer, cause: unknown): Promise<void>;
  /** Called and awaited before the first change. */
  beforeFirstChange(): Promise<void>;
  /** Closes everything, the volume with `shut`. */
  close(): Promise<void>;
}

export class SnapshotVolume implements BlockDevice {
  readonly catalogue: Catalogue;
  readonly reader: ChunkReader;
  readonly label: string;
  readonly size: number;
  readonly blockSize: number;
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities;
  readonly readNow?: (buffer: Uint8Array, offset: number) => boolean;
  readonly writeNow?: (bytes: Uint8Array, offset: number) => boolean;
  readonly #parts: SnapshotVolumeParts;
  readonly #primary: BlockDevice;
  readonly #keeper: Keeper;
  readonly #geometry: Geometry;
  #restore: RestoreRun | undefined;
  /** Undefined until something is written; then what is awaited before it is. */
  #opening: Promise<void> | undefined;
  #isOpen = false;

  constructor(parts: SnapshotVolumeParts) {
    const { primary, chunkSize, file, copier } = parts;
    this.#parts = parts;
    this.#primary = primary;
    this.label = primary.label;
    this.size = primary.size;
    this.blockSize = primary.blockSize;
    this.preferredSize = primary.preferredSize;
    this.capabilities = primary.capabilities;
    this.catalogue = new Catalogue(parts.layers);
    const { catalogue, size } = this;
    const geometry: Geometry = { size, chunkSize };
    this.#geometry = geometry;
    this.reader = new ChunkReader({ primary, geometry, catalogue });
    const recordBroken = (layer: SnapshotLayer, cause: unknown) => parts.recordBroken(layer, cause);
    this.#keeper = new Keeper({ file, geometry, catalogue, copier, recordBroken });
    if (primary.readNow)
      this.readNow = (buffer, offset) =>
        this.#restore === undefined && primary.readNow?.(buffer, offset) === true;
    if (primary.writeNow) this.writeNow = (bytes, offset) => this.#writeNow(bytes, offset);
  }

  /** The restore under way. */
  get restoring(): RestoreRun | undefined {
    return this.#restore;
  }

  /** That of the layers to come, or of those that there are. */
  useChunkSize(bytes: number): void {
    const { chunkSize } = this.#geometry;
    assert(bytes === chunkSize || this.catalogue.layers.length === 0, 'layers have chunks of one size');
    this.#geometry.chunkSize = bytes;
  }

  /** From this moment on there is one more snapshot. Its device is empty. It may change until `earlierWrites` have ended. */
  addSnapshot(layer: SnapshotLayer): void {
    this.catalogue.append(layer);
  }

  /** Resolves when the writes have ended that had begun before the newest snapshot, or restore. */
  async earlierWrites(): Promise<void> {
    const { catalogue, size } = this;
    await catalogue.earlierWrites(catalogue.epoch, 0, size);
  }

  /** From this moment on the disk shows the snapshot; its chunks are yet to be put back (`sweep`). */
  beginRestore(source: SnapshotLayer, settled: SettledChunks): RestoreRun {
    const { file, copier } = this.#parts;
    const { catalogue, reader } = this;
    const geometry = this.#geometry;
    const keeper = this.#keeper;
    catalogue.beginEpoch();
    const { epoch } = catalogue;
    const run = { source, epoch, catalogue, reader, keeper, copier, file, geometry, settled };
    this.#restore = new RestoreRun(run);
    return this.#restore;
  }

  /** Everything is put back. */
  endRestore(): void {
    this.#restore = undefined;
  }

  async read(buffer: Uint8Array, offset: number): Promise<void> {
    if (!this.#restore) return this.#primary.read(buffer, offset);
    return this.#restore.read(buffer, offset, (part, at) => this.#primary.read(part, at));
  }

  #writeNow(bytes: Uint8Array, offset: number): boolean {
    if (!this.#isOpen || this.#restore !== undefined || bytes.length === 0) return false;
    if (!this.#keeper.isCovered(this.catalogue.epoch, offset, bytes.length)) return false;
    return this.#primary.writeNow?.(bytes, offset) === true;
  }

  async write(bytes: Uint8Array, offset: number, options?: DeviceWriteOptions): Promise<void> {
    if (bytes.length === 0) return this.#primary.write(bytes, offset, options);
    const put = (part: Uint8Array): Promise<void> => this.#primary.write(part, offset, options);
    await this.#change(offset, bytes.length, (epoch) =>
      this.#keeper.isCovered(epoch, offset, bytes.length)
        ? put(bytes)
        : this.#keepAndWrite(epoch, { bytes, offset, put }),
    );
  }

  async #keepAndWrite(epoch: Epoch, overwrite: Overwrite): Promise<void> {
    const { bytes, offset, put } = overwrite;
    const { first, last } = this.#keeper.chunksOf(offset, bytes.length);
    // The whole write goes with the copy of its chunk as one operation.
    if (first === last) return this.#keeper.keep(epoch, first, overwrite);
    await this.#keeper.keepRange(epoch, offset, bytes.length);
    await put(bytes);
  }

  async zero(offset: number, length: number, options?: DeviceZeroOptions): Promise<void> {
    if (length === 0) return this.#primary.zero(offset, length, options);
    await this.#change(offset, length, async (epoch) => {
      if (options?.fast && !this.#keeper.isCovered(epoch, offset, length))
        throw this.#notFast(offset, length);
      await this.#keeper.keepRange(epoch, offset, length);
      await this.#primary.zero(offset, length, options);
    });
  }

  async trim(offset: number, length: number, options?: DeviceWriteOptions): Promise<void> {
    if (length === 0) return this.#primary.trim(offset, length, options);
    await this.#change(offset, length, async (epoch) => {
      await this.#keeper.keepRange(epoch, offset, length);
      await this.#primary.trim(offset, length, options);
    });
  }

  /** Saves what snapshots need of a range that the caller is about to change in the file itself. */
  async prepareChange(offset: number, length: number): Promise<void> {
    // Nothing of the content changes; the file's times do.
    if (length === 0) return this.#open();
    await this.#change(offset, length, (epoch) => this.#keeper.keepRange(epoch, offset, length));
  }

  async flush(): Promise<void> {
    await this.#primary.flush();
  }

  async extents(offset: number, length: number): Promise<DeviceExtent[]> {
    if (this.#restore) return [{ offset, length, hole: false, zero: false }];
    return this.#primary.extents(offset, length);
  }

  /** What the file under the disk consists of: of a restore under way it is not the disk's content yet. */
  primaryExtents(offset: number, length: number): Promise<DeviceExtent[]> {
    return this.#primary.extents(offset, length);
  }

  /** The disk goes with everything that keeps its past. */
  close(): Promise<void> {
    return this.#parts.close();
  }

  /** Waits for what is under way, then flushes and closes the primary. */
  async shut(): Promise<void> {
    await this.catalogue.settled();
    await this.#primary.close();
  }

  /** Carries out a change that belongs to the epoch of this moment. */
  async #change(offset: number, length: number, work: (epoch: Epoch) => Promise<void>): Promise<void> {
    const { epoch } = this.catalogue;
    const restore = this.#restore;
    const flight = epoch.writes.enter(offset, offset + length);
    try {
      if (!this.#isOpen) await this.#open();
      if (restore) await restore.settleRange(offset, length);
      await work(epoch);
    } finally {
      epoch.writes.leave(flight);
    }
  }

  async #open(): Promise<void> {
    this.#opening ??= this.#parts.beforeFirstChange();
    try {
      await this.#opening;
      this.#isOpen = true;
    } catch (error) {
      this.#opening = undefined;
      throw error;
    }
  }

  #notFast(offset: number, length: number): VhdkitError {
    return new VhdkitError('UNSUPPORTED', `${this.label}: snapshots need what is in the range`, {
      operation: 'zero range',
      context: { path: this.label, offset, length },
    });
  }
}

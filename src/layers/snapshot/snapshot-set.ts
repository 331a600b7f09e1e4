/**
 * An image with its snapshots, open for use: the volume, and making, deleting and restoring snapshots while it is
 * read and written.
 *
 * Invariants: changes to the set happen one after the other, and none of them makes a read or a write wait. What is
 * answered is durable: a snapshot that was made is there after a crash and shows its moment; a restore that was
 * begun goes on.
 *
 * Not here: locks between processes (operations), exports (nbd/).
 */
import { isVhdkitError, throwIfAborted, VhdkitError } from '../../base/errors.js';
import { randomGuid } from '../../base/random.js';
import { Turns } from '../../base/turns.js';
import type { BlockDevice } from '../../block/block-device.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { CopyAndWriter } from '../../offload/copy-and-write.js';
import type { FailurePolicy } from '../failure-policy.js';
import { stampOf } from '../image-stamp.js';
import { assertSnapshotName } from '../snapshot-name.js';
import { SnapshotLayer } from './catalogue.js';
import { assertIntact, type Run } from './chunk-reader.js';
import { moveDown } from './move-down.js';
import { newChunkSize, removeOldDevice, withNewDevice } from './new-device.js';
import { lostSnapshot, type OpenLayersOptions, openLayers } from './open-layers.js';
import { MAX_SNAPSHOTS, type SnapshotEntry } from './record.js';
import type { SweepOptions } from './restore-run.js';
import { SettledFile } from './settled-file.js';
import { SnapshotView } from './snapshot-view.js';
import { SnapshotVolume } from './snapshot-volume.js';
import type { SnapshotStore } from './store.js';

export interface SnapshotSetParts extends OpenLayersOptions {
  /** The disk. It is flushed and closed with the set; it must not close `file` before `beforeClose` was called. */
  primary: BlockDevice;
  file: RandomAccessFile;
  store: SnapshotStore;
  copier: CopyAndWriter;
}

export interface NewSnapshot {
  name: string;
  /** Of the write-once device. */
  kind: string;
  /** Where the device is to be, or is (empty); default: in the folder. Absolute. */
  device?: string;
  /** Default: writes fail. */
  policy?: FailurePolicy;
  /** Bytes; those of the other snapshots, if there are any. */
  chunkSize?: number;
}

export class SnapshotSet {
  readonly volume: SnapshotVolume;
  readonly store: SnapshotStore;
  readonly #parts: SnapshotSetParts;
  readonly #turns = new Turns();
  #settled: SettledFile | undefined;
  /** Devices of snapshots that are deleted, but still read from by somebody. */
  readonly #closing = new Set<string>();
  /** Ends of deletions: devices to be closed and removed when nobody reads from them any more. */
  readonly #endings = new Set<Promise<void>>();
  /** Name of the snapshot that is being made: until that is done, what it shows may change. */
  #making: string | undefined;
  #closed: Promise<void> | undefined;

  private constructor(parts: SnapshotSetParts, layers: readonly SnapshotLayer[]) {
    const { primary, file, store, copier } = parts;
    this.#parts = parts;
    this.store = store;
    this.volume = new SnapshotVolume({
      primary,
      file,
      chunkSize: store.record.chunkSize,
      layers,
      copier,
      recordBroken: (layer) => store.recordBroken(layer.id),
      beforeFirstChange: () => store.markOpen(),
      close: () => this.close(),
    });
  }

  /**
   * Opens the devices of all snapshots that are of use. A restore that a crash interrupted is in force at once;
   * `finishRestore` completes it.
   * @throws NOT_FOUND, WRITE_ONCE_MISMATCH, IMAGE_CORRUPT (a device), IN_USE, IO_FAILED
   */
  static async open(parts: SnapshotSetParts): Promise<SnapshotSet> {
    const layers = await openLayers(parts.store, parts);
    try {
      const set = new SnapshotSet(parts, layers);
      await set.#resume();
      return set;
    } catch (error) {
      for (const { device } of layers) await device.close().catch(() => undefined);
      throw error;
    }
  }

  /** A snapshot for reading, as long as the set is open. @throws NOT_FOUND, SNAPSHOT_BROKEN, IN_USE (it is being made) */
  view(name: string): SnapshotView {
    return new SnapshotView(this.volume, this.#intactLayer(name));
  }

  /**
   * Makes a snapshot of this moment: of the one at which the epoch changes, while others read and write. Answers when
   * the writes that had begun by then have ended: they are part of it.
   * @throws INVALID_ARGUMENT (name, kind), ALREADY_EXISTS, WRITE_ONCE_MISMATCH, NO_SPACE, IN_USE (a restore), IO_FAILED
   */
  create(options: NewSnapshot): Promise<SnapshotEntry> {
    return this.#exclusively(() => this.#create(options));
  }

  /** What `create` would record, judged as far as that goes without doing it. @throws INVALID_ARGUMENT, ALREADY_EXISTS, IN_USE */
  foresee(options: NewSnapshot): SnapshotEntry {
    const { name, kind, device, policy = 'fail-writes' } = options;
    assertSnapshotName(name);
    this.#assertNoRestore();
    this.#assertRoom(name);
    this.chunkSizeFor(options);
    const id = '00000000-0000-0000-0000-000000000000';
    const created = this.store.access.clock.now();
    return { id, name, created, kind, device: device ?? `${id}.${kind}`, state: 'intact', policy };
  }

  /** Bytes of the chunks that a new snapshot would have. @throws INVALID_ARGUMENT */
  chunkSizeFor(options: NewSnapshot): number {
    const { catalogue, label } = this.volume;
    return newChunkSize(this.store, label, catalogue.layers.length > 0, options);
  }

  /**
   * Deletes a snapshot; what the next older one needs of it is moved there first. Can be repeated when it failed.
   * @throws NOT_FOUND, IN_USE (a restore), NO_SPACE, CANCELLED, IO_FAILED
   */
  async delete(name: string, options: SweepOptions = {}): Promise<void> {
    const { ended } = await this.#exclusively(() => this.#delete(name, options));
    await ended;
  }

  /**
   * Puts the disk back to a snapshot: it shows it from the start, and has it when this returns.
   * @param keep name under which the present content is kept as a snapshot, `kind` as in `create`
   * @returns bytes that were put back
   * @throws NOT_FOUND, SNAPSHOT_BROKEN, IN_USE (another restore), CANCELLED (it goes on later), NO_SPACE, IO_FAILED
   */
  restore(name: string, options: SweepOptions & { keep?: NewSnapshot } = {}): Promise<number> {
    return this.#exclusively(() => this.#restore(name, options));
  }

  /** Completes a restore that was interrupted, if there is one. @returns bytes that were put back */
  finishRestore(options: SweepOptions = {}): Promise<number> {
    return this.#exclusively(() => this.#sweep(options));
  }

  /**
   * Where a range of a snapshot is: in files of devices, which stay as they are, or (no place) in the image, which
   * may be overwritten. The files stay open as long as the snapshots are not deleted.
   */
  async locate(name: string, offset: number, length: number): Promise<Run[]> {
    const layer = this.#intactLayer(name);
    const { catalogue, reader } = this.volume;
    return catalogue.reading((layers) => reader.runs(layers, layer, offset, length));
  }

  /** Runs of what changed on the disk since the snapshot, in chunks. */
  async changes(
    name: string,
    offset: number,
    length: number,
  ): Promise<{ length: number; changed: boolean }[]> {
    const { restoring, catalogue } = this.volume;
    if (restoring) {
      const layer = this.#intactLayer(name);
      return catalogue.reading((layers) => restoring.changes(layers, layer, { offset, length }));
    }
    const runs = await this.locate(name, offset, length);
    return runs.map((run) => ({ length: run.length, changed: run.place !== undefined }));
  }

  /** Runs something long that reads from files of `locate`: they stay open until it ends. */
  holding<T>(work: () => Promise<T>): Promise<T> {
    return this.volume.catalogue.reading(work);
  }

  /**
   * Waits for what is under way, flushes, records how the image is left, and gives everything back, whatever fails.
   * @throws the first failure
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const { volume } = this;
    await this.#exclusively(async () => undefined);
    await Promise.allSettled(this.#endings);
    const devices = volume.catalogue.layers.map(({ device }) => device);
    const failures: unknown[] = [];
    const steps = [
      () => this.#leave(),
      async () => this.#settled?.close(),
      () => volume.shut(),
      ...devices.map((device) => () => device.close()),
    ];
    for (const step of steps) await step().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw failures[0];
  }

  /** As somebody else may find it. */
  async #leave(): Promise<void> {
    const { file, store, writable } = this.#parts;
    const { volume } = this;
    await volume.catalogue.settled();
    await volume.catalogue.quiet();
    if (!writable) return;
    await volume.flush();
    if (store.record.open) await store.markClosed(stampOf(file));
    await store.vanish();
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(work);
  }

  #entryNamed(name: string): SnapshotEntry {
    const entry = this.store.record.snapshots.find((each) => each.name === name);
    if (entry) return entry;
    const { label } = this.volume;
    throw new VhdkitError('NOT_FOUND', `${label} has no snapshot '${name}'`, {
      operation: 'find snapshot',
      context: { path: label, snapshot: name },
      hint: `Look which there are: vhdkit snapshot list ${label}`,
    });
  }

  #intactLayer(name: string): SnapshotLayer {
    const { id } = this.#entryNamed(name);
    const layer = this.volume.catalogue.layers.find((each) => each.id === id);
    const { label } = this.volume;
    if (name === this.#making)
      throw new VhdkitError('IN_USE', `The snapshot '${name}' of ${label} is still being made`, {
        operation: 'find snapshot',
        context: { path: label, snapshot: name },
        hint: 'Try again when it has been made.',
      });
    if (!layer) throw lostSnapshot(label, this.#entryNamed(name));
    assertIntact(layer, label);
    return layer;
  }

  #assertNoRestore(): void {
    const { restoring } = this.volume;
    if (!restoring) return;
    const { label } = this.volume;
    throw new VhdkitError('IN_USE', `${label} is being put back to its snapshot '${restoring.source.name}'`, {
      operation: 'change snapshots',
      context: { path: label, snapshot: restoring.source.name },
      hint: `Let it finish first: vhdkit snapshot restore ${label} ${restoring.source.name}`,
    });
  }

  async #create(options: NewSnapshot): Promise<SnapshotEntry> {
    assertSnapshotName(options.name);
    this.#assertNoRestore();
    this.#assertRoom(options.name);
    this.#making = options.name;
    try {
      const made = await this.#add(options);
      await this.#settleNewest(options.name);
      return made;
    } finally {
      this.#making = undefined;
    }
  }

  /** From then on the newest snapshot shows the same for ever, also after a power failure. */
  async #settleNewest(name: string): Promise<void> {
    try {
      // Writes that had begun before it are part of it. Only we wait for them.
      await this.volume.earlierWrites();
      await this.volume.flush();
    } catch (error) {
      // If it can't be taken back now either, it stays as it is, and can be deleted.
      await this.#delete(name, {}).catch(() => undefined);
      throw error;
    }
  }

  /** From the moment of the last step on there is one more snapshot; not durably so. */
  async #add(options: NewSnapshot): Promise<SnapshotEntry> {
    const { name, kind, device, policy = 'fail-writes' } = options;
    const { store, volume } = this;
    const { record, access } = store;
    const chunkSize = this.chunkSizeFor(options);
    await store.makeFolder();
    const id = randomGuid(access.random);
    const shape = { size: volume.size, chunkSize, primaryId: record.imageId };
    const inFolder = `${id}.${kind}`;
    const path = device ?? store.devicePath(inFolder);
    return withNewDevice(store, { kind, path, shape }, async (opened) => {
      const entry: SnapshotEntry = {
        id,
        name,
        created: access.clock.now(),
        kind: opened.kind,
        device: device ?? inFolder,
        state: 'intact',
        policy,
      };
      const layer = new SnapshotLayer(entry, opened);
      await store.addMark(id);
      await store.add(entry, volume.size, chunkSize);
      volume.useChunkSize(chunkSize);
      volume.addSnapshot(layer);
      return entry;
    });
  }

  #assertRoom(name: string): void {
    const { snapshots } = this.store.record;
    const { label } = this.volume;
    const context = { path: label, snapshot: name };
    if (snapshots.some((entry) => entry.name === name))
      throw new VhdkitError('ALREADY_EXISTS', `${label} has a snapshot '${name}' already`, {
        operation: 'create snapshot',
        context,
        hint: 'Choose another name, or delete that one first.',
      });
    if (snapshots.length >= MAX_SNAPSHOTS)
      throw new VhdkitError('UNSUPPORTED', `${label} has ${snapshots.length} snapshots, which is the limit`, {
        operation: 'create snapshot',
        context,
        hint: 'Delete some that are not needed any more.',
      });
  }

  /** Answers what resolves when its device is gone, too. */
  async #delete(name: string, options: SweepOptions): Promise<{ ended: Promise<void> }> {
    this.#assertNoRestore();
    const { store, volume } = this;
    const entry = this.#entryNamed(name);
    const layer = volume.catalogue.layers.find(({ id }) => id === entry.id);
    if (layer) {
      await this.#changeEntry(entry.id, (changed) => {
        changed.state = 'deleting';
      });
      layer.state = 'deleting';
      await volume.catalogue.settled();
      await moveDown({ layer, volume, copier: this.#parts.copier, ...options }).catch((error: unknown) => {
        throw this.#notMoved(error, entry);
      });
    }
    this.#closing.add(entry.device);
    await store.update((record) => {
      record.snapshots = record.snapshots.filter(({ id }) => id !== entry.id);
      record.leftovers.push(entry.device);
    });
    if (layer) volume.catalogue.remove(layer);
    await store.removeMark(entry.id);
    return { ended: this.#end(entry.device, layer) };
  }

  /** Whoever reads from a device may take long: that is no reason to keep other changes waiting. */
  #end(device: string, layer: SnapshotLayer | undefined): Promise<void> {
    const work = async (): Promise<void> => {
      await this.volume.catalogue.quiet();
      await layer?.device.close();
      this.#closing.delete(device);
      await this.#exclusively(() => this.removeLeftovers());
    };
    const ended = work();
    this.#endings.add(ended);
    const forget = (): boolean => this.#endings.delete(ended);
    ended.then(forget, forget);
    return ended;
  }

  /** What is damaged can't be moved to those that need it: they are lost as well. */
  #notMoved(error: unknown, { id }: SnapshotEntry): unknown {
    if (!isVhdkitError(error) || error.code !== 'IMAGE_CORRUPT') return error;
    const { snapshots } = this.store.record;
    const newest = snapshots.findIndex((each) => each.id === id);
    const names = snapshots.slice(0, newest + 1).map(({ name }) => name);
    return new VhdkitError(error.code, error.message, {
      operation: 'delete snapshot',
      context: error.context,
      cause: error,
      hint: `Older snapshots need what is damaged. Give them up too: vhdkit snapshot delete ${this.volume.label} ${names.join(' ')}`,
    });
  }

  /** Removes devices that nobody needs any more, also those that an interrupted run left. */
  async removeLeftovers(): Promise<void> {
    const { store } = this;
    const leftovers = store.record.leftovers.filter((device) => !this.#closing.has(device));
    if (leftovers.length === 0) return;
    for (const device of leftovers) await removeOldDevice(store, device);
    await store.update((record) => {
      record.leftovers = record.leftovers.filter((device) => !leftovers.includes(device));
    });
  }

  async #changeEntry(id: string, change: (entry: SnapshotEntry) => void): Promise<void> {
    await this.store.update((record) => {
      const entry = record.snapshots.find((each) => each.id === id);
      if (entry) change(entry);
    });
  }

  async #restore(name: string, options: SweepOptions & { keep?: NewSnapshot }): Promise<number> {
    const { store, volume } = this;
    const underWay = volume.restoring;
    const source = this.#intactLayer(name);
    if (underWay && underWay.source !== source) this.#assertNoRestore();
    if (!underWay) {
      throwIfAborted(options.signal, 'restore snapshot');
      if (options.keep) await this.#create(options.keep);
      const settled = await this.#openSettled(true);
      try {
        await store.update((record) => {
          record.restoring = source.id;
        });
      } catch (error) {
        await settled.close().catch(() => undefined);
        throw error;
      }
      this.#settled = settled;
      volume.beginRestore(source, settled);
    }
    return this.#sweep(options);
  }

  async #openSettled(fresh: boolean): Promise<SettledFile> {
    const { store, volume } = this;
    const chunks = Math.ceil(volume.size / store.record.chunkSize);
    return SettledFile.open(await store.openSettled(fresh), chunks);
  }

  async #resume(): Promise<void> {
    const { store, volume } = this;
    const { restoring } = store.record;
    if (restoring === undefined) return;
    const source = volume.catalogue.layers.find(({ id }) => id === restoring);
    if (source?.state !== 'intact') throw lostSnapshot(volume.label, store.entry(restoring));
    this.#settled = await this.#openSettled(false);
    volume.beginRestore(source, this.#settled);
  }

  async #sweep(options: SweepOptions): Promise<number> {
    const { store, volume } = this;
    const run = volume.restoring;
    if (!run) return 0;
    // Putting back goes past the volume, which marks it for all other changes.
    if (!store.record.open) await store.markOpen();
    await run.sweep(options);
    await store.update((record) => {
      delete record.restoring;
    });
    volume.endRestore();
    // Writes that had begun before are still settling their chunks.
    await volume.catalogue.settled();
    await this.#settled?.close();
    this.#settled = undefined;
    await store.removeSettled();
    return run.restored;
  }
}

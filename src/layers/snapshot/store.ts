/**
 * The folder beside an image where its snapshots are: the record, their devices, and small marks.
 *
 * Invariants: the record is replaced as a whole or not at all. A snapshot that is recorded has its device and its
 * mark; it is intact only as long as the mark is there, because taking a file away needs no room on a full disk.
 * What is in the folder without being recorded was left by a crash and goes at the next chance.
 *
 * Not here: what a record means for a disk in use (snapshot-set.ts).
 */
import { basename, isAbsolute, join, resolve } from 'node:path';
import type { Clock } from '../../base/clock.js';
import { VhdkitError } from '../../base/errors.js';
import { type RandomSource, randomGuid } from '../../base/random.js';
import { Turns } from '../../base/turns.js';
import type { WriteOnceDevice } from '../../block/write-once-device.js';
import { type FileSystem, sameFile } from '../../io/file-system.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { readSmallFile, removeIfThere, replaceFile } from '../../io/small-file.js';
import type { ImageStamp } from '../image-stamp.js';
import {
  decodeRecord,
  encodeRecord,
  invalidRecord,
  MAX_RECORD_BYTES,
  type OpenMark,
  type SnapshotEntry,
  type SnapshotRecord,
} from './record.js';

/** What the store needs of the machine. */
export interface StoreAccess {
  fileSystem: FileSystem;
  clock: Clock;
  random: RandomSource;
  /** Makes the folder if it is not there. */
  makeFolder(path: string): Promise<void>;
  /** Removes it if it is empty. */
  removeFolder(path: string): Promise<void>;
  /** Who we are, for the open mark. */
  self: Omit<OpenMark, 'since'>;
  devices: DeviceAccess;
}

/** What a device of a snapshot has to be; sizes in bytes. */
export interface DeviceShape {
  size: number;
  chunkSize: number;
  primaryId: string;
}

/** Write-once devices of whatever kinds there are. */
export interface DeviceAccess {
  /** Of a kind, in bytes. @throws INVALID_ARGUMENT (no such kind) */
  chunkSizes(kind: string): { least: number; most: number };
  /** Makes an empty one. @throws INVALID_ARGUMENT (no such kind), ALREADY_EXISTS, NO_SPACE, … */
  create(kind: string, path: string, shape: DeviceShape): Promise<void>;
  /** @throws WRITE_ONCE_MISMATCH, NOT_FOUND, IMAGE_CORRUPT, … */
  open(
    path: string,
    expected: DeviceShape & { empty?: boolean; writable: boolean },
  ): Promise<WriteOnceDevice>;
  /** Whether it is there, without opening it. @throws as `open` does for what is lost, PERMISSION_DENIED, IO_FAILED */
  look(path: string, expected: DeviceShape): Promise<void>;
  remove(path: string): Promise<void>;
  /** Whether there is one, and it was made for that primary. */
  isOf(path: string, primaryId: string): Promise<boolean>;
}

const RECORD_NAME = 'manifest.json';
const SETTLED_NAME = 'restore.settled';
const MARK = '.intact';
const DEVICE_NAME = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[a-z-]+$/;

export class SnapshotStore {
  readonly folder: string;
  readonly #access: StoreAccess;
  #record: SnapshotRecord;
  #isStored: boolean;
  /** The folder is there, or was made. */
  #hasFolder: boolean;
  /** Changes one after the other. */
  readonly #turns = new Turns();

  private constructor(folder: string, access: StoreAccess, record: SnapshotRecord, isStored: boolean) {
    this.folder = folder;
    this.#access = access;
    this.#record = record;
    this.#isStored = isStored;
    this.#hasFolder = isStored;
  }

  /**
   * The store of an image that has one; undefined where there is none.
   * @throws SNAPSHOT_RECORD_INVALID, PERMISSION_DENIED, IO_FAILED
   */
  static async open(folder: string, access: StoreAccess): Promise<SnapshotStore | undefined> {
    const path = join(folder, RECORD_NAME);
    const { fileSystem } = access;
    if ((await fileSystem.kind(path)) === 'absent') return undefined;
    const bytes = await readSmallFile(fileSystem, path, MAX_RECORD_BYTES);
    if (!bytes) throw invalidRecord(path, 'damaged', 'is damaged: it is far too long');
    const record = decodeRecord(bytes, path);
    for (const entry of record.snapshots) {
      const marked = (await fileSystem.kind(join(folder, entry.id + MARK))) !== 'absent';
      if (marked || entry.state !== 'intact') continue;
      entry.state = 'broken';
      entry.reason = 'copy-failed';
    }
    return new SnapshotStore(folder, access, record, true);
  }

  /** A store without snapshots, of which nothing is written yet. Sizes in bytes. */
  static begin(
    folder: string,
    access: StoreAccess,
    { path, size, chunkSize }: { path: string; size: number; chunkSize: number },
  ): SnapshotStore {
    const imageId = randomGuid(access.random);
    const image = resolve(path);
    const record = { imageId, image, imageSize: size, chunkSize, snapshots: [], leftovers: [] };
    return new SnapshotStore(folder, access, record, false);
  }

  /**
   * Refuses an image while the one that the record was made for is somewhere else: a folder that is named for two
   * images would mix their pasts. Not asked where the folder lies beside its image, because both are moved and copied.
   * @throws SNAPSHOT_RECORD_INVALID; `context.reason`: `another-image`
   */
  async assertImage(path: string): Promise<void> {
    const { fileSystem } = this.#access;
    const { image } = this.#record;
    const [wanted, found] = [image && (await fileSystem.identity(image)), await fileSystem.identity(path)];
    if (wanted && found && !sameFile(wanted, found))
      throw new VhdkitError('SNAPSHOT_RECORD_INVALID', `${this.folder} has the snapshots of ${image}`, {
        operation: 'open snapshots',
        context: { path: this.folder, reason: 'another-image' },
        hint: 'Name another folder: each image needs one of its own.',
      });
    this.#record.image = resolve(path);
  }

  /** As it is stored, or is going to be with the next change. */
  get record(): Readonly<SnapshotRecord> {
    return this.#record;
  }

  get access(): StoreAccess {
    return this.#access;
  }

  entry(id: string): SnapshotEntry | undefined {
    return this.#record.snapshots.find((entry) => entry.id === id);
  }

  /** The path of a snapshot's device. */
  devicePath(device: string): string {
    return isAbsolute(device) ? device : join(this.folder, basename(device));
  }

  get settledPath(): string {
    return join(this.folder, SETTLED_NAME);
  }

  async makeFolder(): Promise<void> {
    await this.#access.makeFolder(this.folder);
    this.#hasFolder = true;
  }

  /** Changes the record, durably. @throws NO_SPACE, PERMISSION_DENIED, IO_FAILED; then it is as it was */
  update(change: (record: SnapshotRecord) => void): Promise<void> {
    return this.#turns.take(async () => {
      const next = structuredClone(this.#record);
      change(next);
      await this.makeFolder();
      await this.#write(RECORD_NAME, encodeRecord(next));
      this.#record = next;
      this.#isStored = true;
    });
  }

  /** Records a snapshot. The image counts as open from now on: `markClosed` says when it is not. */
  async add(entry: SnapshotEntry, imageSize: number, chunkSize: number): Promise<void> {
    const { self, clock } = this.#access;
    await this.update((record) => {
      Object.assign(record, { imageSize, chunkSize });
      record.snapshots.push(entry);
      delete record.stamp;
      record.open = { ...self, since: clock.now() };
    });
  }

  /** What there was of snapshots is of no use any more. Stored only if asked: looking changes nothing. */
  async giveUpAll(imageSize: number, isStored: boolean): Promise<void> {
    const change = (record: SnapshotRecord): void => {
      for (const entry of record.snapshots)
        Object.assign(entry, { state: 'broken', reason: 'image-changed' });
      record.imageSize = imageSize;
      delete record.restoring;
    };
    if (isStored) await this.update(change);
    else change(this.#record);
  }

  /** A snapshot is lost, and with it all older ones, which read through it. */
  async giveUpThrough(id: string): Promise<void> {
    await this.update((record) => {
      const newest = record.snapshots.findIndex((entry) => entry.id === id);
      const lost = record.snapshots.slice(0, newest + 1);
      for (const entry of lost)
        Object.assign(entry, { state: 'broken', reason: entry.reason ?? 'device-lost' });
      if (lost.some((entry) => entry.id === record.restoring)) delete record.restoring;
    });
  }

  /** Before a snapshot is recorded. */
  async addMark(id: string): Promise<void> {
    await this.#write(id + MARK, new Uint8Array(0));
  }

  /** Records that a snapshot is broken: works on a full disk too. @throws PERMISSION_DENIED, IO_FAILED */
  async recordBroken(id: string): Promise<void> {
    await this.#removeIfThere(join(this.folder, id + MARK));
    // Says the same in the record, if there is room.
    await this.update((record) => {
      const entry = record.snapshots.find((each) => each.id === id);
      if (entry?.state === 'intact') Object.assign(entry, { state: 'broken', reason: 'copy-failed' });
    }).catch(() => undefined);
  }

  /** From now on the image's state is not known to anybody else. */
  async markOpen(): Promise<void> {
    const { self, clock } = this.#access;
    if (!this.#isStored) return;
    await this.update((record) => {
      delete record.stamp;
      record.open = { ...self, since: clock.now() };
    });
  }

  /** The image was flushed and is left as the stamp says. */
  async markClosed(stamp: ImageStamp | undefined): Promise<void> {
    if (!this.#isStored) return;
    await this.update((record) => {
      delete record.open;
      if (stamp) record.stamp = stamp;
    });
  }

  /** Opens what remembers how far a restore is, empty or as it was left. */
  async openSettled(fresh: boolean): Promise<RandomAccessFile> {
    if (fresh) await this.#write(SETTLED_NAME, new Uint8Array(0));
    return this.#access.fileSystem.open(this.settledPath, { writable: true });
  }

  /** Removes what is not recorded. Called by whoever holds the image's lock. */
  async sweep(): Promise<void> {
    const { fileSystem } = this.#access;
    const { snapshots, restoring, leftovers } = this.#record;
    for (const name of await fileSystem.list(this.folder)) {
      const id = name.slice(0, name.lastIndexOf('.'));
      const known = snapshots.some((entry) => entry.id === id || entry.device === name);
      const path = join(this.folder, name);
      if (name === SETTLED_NAME && restoring === undefined) await this.#removeIfThere(path);
      if (!DEVICE_NAME.test(name) || known || leftovers.includes(name)) continue;
      if (name.endsWith(MARK)) await this.#removeIfThere(path);
      else await this.removeDevice(path);
    }
  }

  /** What is not there is no error. */
  async removeDevice(path: string): Promise<void> {
    if ((await this.#access.fileSystem.kind(path)) === 'absent') return;
    await this.#access.devices.remove(path);
  }

  /** Removes a mark that stands for nothing any more. */
  async removeMark(id: string): Promise<void> {
    await this.#removeIfThere(join(this.folder, id + MARK));
  }

  async removeSettled(): Promise<void> {
    await this.#removeIfThere(this.settledPath);
  }

  /** Removes the folder when no snapshot is left, or when none came about. */
  async vanish(): Promise<void> {
    const { snapshots, leftovers } = this.#record;
    if (!this.#hasFolder || snapshots.length > 0 || leftovers.length > 0) return;
    await this.sweep();
    await this.#removeIfThere(join(this.folder, RECORD_NAME));
    this.#isStored = false;
    await this.#access.removeFolder(this.folder);
  }

  async #write(name: string, bytes: Uint8Array): Promise<void> {
    await replaceFile(this.#access.fileSystem, join(this.folder, name), bytes);
  }

  async #removeIfThere(path: string): Promise<void> {
    await removeIfThere(this.#access.fileSystem, path);
  }
}

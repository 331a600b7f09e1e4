/**
 * Where a preserved volume is kept between runs: a folder beside the image with the copies, the look-up table and a
 * record.
 *
 * Invariants: the record is the last thing that is made and the first that goes; without one, what lies in the
 * folder is what a crash left. Volumes are made and deleted one after the other. While the image is open the record has no stamp; it gets one when everything is flushed
 * and closed. An image that is not what its stamp says was changed by something else: the preserved volume is broken
 * then, because nobody kept what it needs.
 *
 * Not here: which exports there are (operations/serve).
 */
import type { Clock } from '../../base/clock.js';
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { Turns } from '../../base/turns.js';
import type { BlockDevice } from '../../block/block-device.js';
import type { FileSystem } from '../../io/file-system.js';
import { readSmallFile, removeIfThere, replaceFile } from '../../io/small-file.js';
import type { FailurePolicy } from '../failure-policy.js';
import { type ImageStamp, isSameStamp, stampOf } from '../image-stamp.js';
import { volumeFolder, volumeRecord } from '../snapshot-folder.js';
import { assertSnapshotName } from '../snapshot-name.js';
import { type Copies, closeCopies, createCopies, openCopies, removeCopies } from './copies.js';
import { assertTableShape, type VolumeBreakReason } from './lookup-table.js';
import { damagedRecord, decodeRecord, encodeRecord, MAX_RECORD_BYTES, type VolumeRecord } from './record.js';
import { VolumePair } from './volume-pair.js';
import { FrontVolume, PreservedVolume } from './volumes.js';

export interface SiteAccess {
  fileSystem: FileSystem;
  clock: Clock;
  /** Makes the folder if it is not there. */
  makeFolder(path: string): Promise<void>;
  /** Removes it if it is empty. */
  removeFolder(path: string): Promise<void>;
}

export interface NewVolume {
  name: string;
  /** Bytes, a power of two from 4 KiB to 16 MiB; default 64 KiB. */
  blockSize?: number;
  /** What becomes of a live write whose old data can't be kept; default: it fails. */
  onFailure?: FailurePolicy;
}

export interface VolumeFacts {
  name: string;
  created: number;
  state: 'intact' | 'broken';
  /** Why it is broken. */
  reason: VolumeBreakReason | null;
  blockSize: number;
  /** Blocks of which there is a copy. */
  copied: number;
  /** Storage that the copies take, bytes. */
  allocatedBytes: number;
}

const DEFAULT_BLOCK = 64 * 1024;

async function readRecord(fileSystem: FileSystem, path: string): Promise<VolumeRecord | undefined> {
  if ((await fileSystem.kind(path)) === 'absent') return undefined;
  const bytes = await readSmallFile(fileSystem, path, MAX_RECORD_BYTES);
  if (!bytes) throw damagedRecord(path, 'damaged');
  return decodeRecord(bytes, path);
}

/** The name of an image's preserved volume, whatever has become of it. @throws SNAPSHOT_RECORD_INVALID, IO_FAILED */
export async function preservedVolumeName(
  fileSystem: FileSystem,
  image: string,
): Promise<string | undefined> {
  return (await readRecord(fileSystem, volumeRecord(image)))?.name;
}

/** What there is of an image's preserved volume; undefined: it has none. Looks, changes nothing. */
export async function readPreservedVolume(
  fileSystem: FileSystem,
  image: string,
): Promise<VolumeFacts | undefined> {
  const record = await readRecord(fileSystem, volumeRecord(image));
  if (!record) return undefined;
  const copies = await openCopies(fileSystem, volumeFolder(image), { writable: false });
  try {
    return await factsOf(record, copies);
  } finally {
    await closeCopies(copies);
  }
}

/** Gives up an image's preserved volume, whatever is left of it. Whoever calls holds the image's lock. */
export async function removePreservedVolume(access: SiteAccess, image: string): Promise<void> {
  const folder = volumeFolder(image);
  await removeIfThere(access.fileSystem, volumeRecord(image));
  await removeCopies(access.fileSystem, folder);
  await access.removeFolder(folder);
}

async function factsOf({ name, created }: VolumeRecord, { data, table }: Copies): Promise<VolumeFacts> {
  return {
    name,
    created,
    state: table.broken ? 'broken' : 'intact',
    reason: table.broken ?? null,
    blockSize: table.shape.blockSize,
    copied: table.count,
    allocatedBytes: await data.allocatedBytes(),
  };
}

export class VolumeSite {
  readonly #access: SiteAccess;
  readonly #image: string;
  readonly #folder: string;
  readonly #pair: VolumePair;
  readonly front: BlockDevice;
  /** Making and deleting. */
  readonly #turns = new Turns();
  /** Of the volume that there is. */
  #record: VolumeRecord | undefined;

  private constructor(access: SiteAccess, image: string, base: BlockDevice) {
    this.#access = access;
    this.#image = image;
    this.#folder = volumeFolder(image);
    this.#pair = new VolumePair(base);
    this.front = new FrontVolume(this.#pair, () => this.#turns.take(() => this.#leave()));
  }

  /**
   * Puts the two volumes on top of an image that is open for writing and locked. The preserved one of an earlier run is
   * there again. Closing `front` closes the base.
   * @param image the path of its file without links
   * @throws SNAPSHOT_RECORD_INVALID, IMAGE_CORRUPT (the look-up table), IO_FAILED; the base stays open then
   */
  static async open(access: SiteAccess, image: string, base: BlockDevice): Promise<VolumeSite> {
    const site = new VolumeSite(access, image, base);
    const record = await readRecord(access.fileSystem, volumeRecord(image));
    if (record) await site.#resume(record);
    return site;
  }

  get preserved(): { name: string; device: BlockDevice } | undefined {
    const { name } = this.#record ?? {};
    return name === undefined ? undefined : { name, device: new PreservedVolume(this.#pair, name) };
  }

  /**
   * Begins a preserved volume, of a moment between the call and the answer. No request waits for it; it answers when the
   * writes have ended that had begun by then, which are part of the volume, and are durable. Until then there is none.
   * @throws ALREADY_EXISTS (one at a time), INVALID_ARGUMENT, UNSUPPORTED (a block device), NO_SPACE, IO_FAILED
   */
  create(options: NewVolume): Promise<void> {
    return this.#turns.take(() => this.#create(options));
  }

  /**
   * Gives the preserved volume up.
   * @param letGo ends whatever uses it: called when it is this one's turn, so that the volume is fully made
   * @throws NOT_FOUND, IO_FAILED
   */
  delete(name: string, letGo?: () => Promise<void>): Promise<void> {
    return this.#turns.take(() => this.#delete(name, letGo));
  }

  /**
   * Puts the image back below the volumes, which a preserved one would not be kept from; none is made meanwhile.
   * @throws HAS_SNAPSHOTS where there is one, and what the work throws
   */
  withoutVolume<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(async () => {
      if (!this.#record) return work();
      const { name } = this.#record;
      throw new VhdkitError(
        'HAS_SNAPSHOTS',
        `${this.#image} can't be put back: its preserved volume '${name}' would show it, too`,
        {
          operation: 'restore snapshot',
          context: { path: this.#image, name },
          hint: 'Delete that volume first, or copy from the snapshot what is needed.',
        },
      );
    });
  }

  async facts(): Promise<VolumeFacts | undefined> {
    const copies = this.#pair.copies;
    return this.#record && copies && factsOf(this.#record, copies);
  }

  async #create({ name, blockSize = DEFAULT_BLOCK, onFailure = 'fail-writes' }: NewVolume): Promise<void> {
    const { fileSystem, clock } = this.#access;
    await this.#judge(name);
    const shape = { size: this.#pair.base.size, blockSize };
    assertTableShape(shape);
    const record: VolumeRecord = { name, created: clock.now(), onFailure };
    let copies: Copies | undefined;
    try {
      await this.#access.makeFolder(this.#folder);
      copies = await createCopies(fileSystem, this.#folder, shape);
      await this.#write(record);
    } catch (error) {
      if (copies) await closeCopies(copies);
      // What is left without a record stands for nothing.
      await removePreservedVolume(this.#access, this.#image).catch(() => undefined);
      throw error;
    }
    // From here on what is written is kept: a crash before this leaves a volume that shows the image as it is.
    this.#pair.split({ ...copies, onFailure });
    try {
      await this.#pair.earlierWrites();
      await this.#pair.flush();
    } catch (error) {
      // If it can't be taken back now either, it stays as it is, and can be deleted.
      this.#record = record;
      await this.#remove().catch(() => undefined);
      throw error;
    }
    this.#record = record;
  }

  async #delete(name: string, letGo?: () => Promise<void>): Promise<void> {
    if (this.#record?.name !== name) {
      throw new VhdkitError('NOT_FOUND', `${this.#image} has no preserved volume '${name}'`, {
        operation: 'delete volume',
        context: { path: this.#image, name },
        hint: `Look what there is: vhdkit snapshot list ${this.#image}`,
      });
    }
    await letGo?.();
    await this.#remove();
  }

  /** The record first: as long as that is there, what is written is kept. */
  async #remove(): Promise<void> {
    await removeIfThere(this.#access.fileSystem, volumeRecord(this.#image));
    this.#record = undefined;
    const copies = await this.#pair.join();
    if (copies) await closeCopies(copies);
    await removePreservedVolume(this.#access, this.#image);
  }

  async #judge(name: string): Promise<void> {
    const { fileSystem } = this.#access;
    const context = { path: this.#image, name };
    if (this.#record) {
      throw new VhdkitError(
        'ALREADY_EXISTS',
        `${this.#image} has the preserved volume '${this.#record.name}'`,
        {
          operation: 'create volume',
          context,
          hint: 'Delete it first; of write-once snapshots there can be many.',
        },
      );
    }
    assertSnapshotName(name);
    if ((await fileSystem.kind(this.#image)) !== 'device') return;
    throw new VhdkitError('UNSUPPORTED', `${this.#image} is a block device: nothing can be kept beside it`, {
      operation: 'create volume',
      context,
      hint: 'Take a write-once snapshot with --folder instead.',
    });
  }

  async #resume(record: VolumeRecord): Promise<void> {
    const { stamp, ...open } = record;
    const copies = await openCopies(this.#access.fileSystem, this.#folder, { writable: true });
    try {
      if (stamp) {
        const now = await this.#stamp();
        if (!now || !isSameStamp(stamp, now)) await copies.table.markBroken('image-changed');
        await this.#write(open);
      }
      this.#pair.split({ ...copies, onFailure: record.onFailure });
    } catch (error) {
      await closeCopies(copies);
      throw error;
    }
    this.#record = open;
  }

  async #stamp(): Promise<ImageStamp | undefined> {
    const file = await this.#access.fileSystem.open(this.#image);
    try {
      return stampOf(file);
    } finally {
      await file.close();
    }
  }

  /** Everything is flushed and closed: says how the image is left. */
  async #leave(): Promise<void> {
    if (!this.#record) return;
    const stamp = await this.#stamp();
    if (!stamp) return;
    await this.#write({ ...this.#record, stamp }).catch((error: unknown) => {
      // Full storage is no reason to say that the image was not closed well: without a stamp it is taken as it is.
      if (!isVhdkitError(error) || error.code !== 'NO_SPACE') throw error;
    });
  }

  #write(record: VolumeRecord): Promise<void> {
    return replaceFile(this.#access.fileSystem, volumeRecord(this.#image), encodeRecord(record));
  }
}

/**
 * Where a preserved volume is kept between runs: a folder beside the image with the copies, the look-up table and a
 * record.
 *
 * Invariants: the record is the last thing that is made and the first that goes; without one, what lies in the
 * folder is what a crash left. While the image is open the record has no stamp; it gets one when everything is flushed
 * and closed. An image that is not what its stamp says was changed by something else: the preserved volume is broken
 * then, because nobody kept what it needs.
 *
 * Not here: which exports there are (operations/serve).
 */
import { join } from 'node:path';
import type { Clock } from '../../base/clock.js';
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import type { BlockDevice } from '../../block/block-device.js';
import type { FileSystem } from '../../io/file-system.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { volumeFolder, volumeRecord } from '../snapshot-folder.js';
import { LookupTable } from './lookup-table.js';
import { decodeRecord, encodeRecord, MAX_NAME, MAX_RECORD_BYTES, type VolumeRecord } from './record.js';
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
  onCopyFailure?: VolumeRecord['onCopyFailure'];
}

export interface VolumeFacts {
  name: string;
  created: number;
  state: 'intact' | 'broken';
  blockSize: number;
  /** Blocks of which there is a copy. */
  copied: number;
  /** Storage that the copies take, bytes. */
  allocatedBytes: number;
}

const DEFAULT_BLOCK = 64 * 1024;
const COPIES = 'copies';
const TABLE = 'table';

async function readRecord(fileSystem: FileSystem, path: string): Promise<VolumeRecord | undefined> {
  if ((await fileSystem.kind(path)) === 'absent') return undefined;
  const file = await fileSystem.open(path);
  try {
    const bytes = new Uint8Array(Math.min(file.size(), MAX_RECORD_BYTES));
    return decodeRecord(bytes.subarray(0, await file.read(bytes, 0)), path);
  } finally {
    await file.close();
  }
}

/** What there is of an image's preserved volume; undefined: it has none. Looks, changes nothing. */
export async function readPreservedVolume(
  fileSystem: FileSystem,
  image: string,
): Promise<VolumeFacts | undefined> {
  const folder = volumeFolder(image);
  const record = await readRecord(fileSystem, volumeRecord(image));
  if (!record) return undefined;
  const data = await fileSystem.open(join(folder, COPIES));
  try {
    const table = await LookupTable.open(await fileSystem.open(join(folder, TABLE)));
    try {
      return await factsOf(record, { data, table });
    } finally {
      await table.close();
    }
  } finally {
    await data.close();
  }
}

/** Gives up an image's preserved volume, whatever is left of it. Whoever calls holds the image's lock. */
export async function removePreservedVolume(access: SiteAccess, image: string): Promise<void> {
  const folder = volumeFolder(image);
  for (const path of [volumeRecord(image), join(folder, TABLE), join(folder, COPIES)]) {
    await access.fileSystem.remove(path).catch((error: unknown) => {
      if (!isVhdkitError(error) || error.code !== 'NOT_FOUND') throw error;
    });
  }
  await access.removeFolder(folder);
}

async function factsOf(
  { name, created }: VolumeRecord,
  { data, table }: { data: RandomAccessFile; table: LookupTable },
): Promise<VolumeFacts> {
  return {
    name,
    created,
    state: table.broken ? 'broken' : 'intact',
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
  #record: VolumeRecord | undefined;
  #preserved: PreservedVolume | undefined;

  private constructor(access: SiteAccess, image: string, base: BlockDevice) {
    this.#access = access;
    this.#image = image;
    this.#folder = volumeFolder(image);
    this.#pair = new VolumePair(base);
    this.front = new FrontVolume(this.#pair, () => this.#leave());
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
    return this.#preserved && this.#record && { name: this.#record.name, device: this.#preserved };
  }

  /**
   * Begins a preserved volume. The moment that it stands for is when this is nearly done, not when it is asked for; no
   * request waits for it.
   * @throws ALREADY_EXISTS (one at a time), INVALID_ARGUMENT, UNSUPPORTED (a block device), NO_SPACE, IO_FAILED
   */
  async create(options: NewVolume): Promise<void> {
    const { name, blockSize = DEFAULT_BLOCK, onCopyFailure = 'fail-write' } = options;
    const { clock } = this.#access;
    await this.#judge(name);
    const record: VolumeRecord = { name, created: clock.now(), onCopyFailure };
    this.#record = record;
    let copies: { data: RandomAccessFile; table: LookupTable } | undefined;
    try {
      await this.#access.makeFolder(this.#folder);
      const data = await this.#newFile(COPIES);
      await data.truncate(this.#pair.base.size);
      await data.flush();
      const file = await this.#newFile(TABLE);
      const table = await LookupTable.create(file, { size: this.#pair.base.size, blockSize });
      copies = { data, table };
      await this.#write(record);
    } catch (error) {
      this.#record = undefined;
      await copies?.data.close();
      await copies?.table.close();
      await removePreservedVolume(this.#access, this.#image);
      throw error;
    }
    // From here on what is written is kept: a crash before this leaves a volume that shows the image as it is.
    this.#pair.split({ ...copies, onCopyFailure });
    this.#preserved = new PreservedVolume(this.#pair, name);
  }

  /** Gives the preserved volume up. Nobody uses it any more. @throws NOT_FOUND, IO_FAILED */
  async delete(name: string): Promise<void> {
    if (this.#record?.name !== name) {
      throw new VhdkitError('NOT_FOUND', `${this.#image} has no preserved volume '${name}'`, {
        operation: 'delete volume',
        context: { path: this.#image, name },
        hint: '`vhdkit snapshot list` tells what there is.',
      });
    }
    const copies = await this.#pair.join();
    this.#preserved = undefined;
    this.#record = undefined;
    await copies?.data.close();
    await copies?.table.close();
    await removePreservedVolume(this.#access, this.#image);
  }

  async facts(): Promise<VolumeFacts | undefined> {
    const copies = this.#pair.copies;
    return this.#record && copies && factsOf(this.#record, copies);
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
    if (name === '' || name.length > MAX_NAME || /[/\p{Cc}]/u.test(name)) {
      throw new VhdkitError('INVALID_ARGUMENT', `'${name}' can't be the name of a volume`, {
        operation: 'create volume',
        context,
        hint: 'Use up to 255 characters, none of them a slash.',
      });
    }
    if ((await fileSystem.kind(this.#image)) !== 'device') return;
    throw new VhdkitError('UNSUPPORTED', `${this.#image} is a block device: nothing can be kept beside it`, {
      operation: 'create volume',
      context,
      hint: 'Take a write-once snapshot with --folder instead.',
    });
  }

  async #resume(record: VolumeRecord): Promise<void> {
    const { fileSystem } = this.#access;
    const data = await fileSystem.open(join(this.#folder, COPIES), { writable: true });
    let file: RandomAccessFile | undefined;
    try {
      file = await fileSystem.open(join(this.#folder, TABLE), { writable: true });
      const table = await LookupTable.open(file);
      if (!(await this.#isAsLeft(record))) await table.markBroken();
      this.#pair.split({ data, table, onCopyFailure: record.onCopyFailure });
    } catch (error) {
      await data.close();
      await file?.close();
      throw error;
    }
    const { stamp: _, ...open } = record;
    await this.#write(open);
    this.#record = open;
    this.#preserved = new PreservedVolume(this.#pair, record.name);
  }

  async #stamp(): Promise<VolumeRecord['stamp']> {
    const file = await this.#access.fileSystem.open(this.#image);
    try {
      const print = file.fingerprint();
      return print && { size: String(print.size), mtime: String(print.mtime) };
    } finally {
      await file.close();
    }
  }

  async #isAsLeft({ stamp }: VolumeRecord): Promise<boolean> {
    if (!stamp) return true;
    const now = await this.#stamp();
    return now?.size === stamp.size && now.mtime === stamp.mtime;
  }

  /** Everything is flushed and closed: says how the image is left. */
  async #leave(): Promise<void> {
    if (!this.#record) return;
    const stamp = await this.#stamp();
    if (stamp) await this.#write({ ...this.#record, stamp });
  }

  async #newFile(name: string): Promise<RandomAccessFile> {
    const path = join(this.#folder, name);
    await this.#publish(path, new Uint8Array(0));
    return this.#access.fileSystem.open(path, { writable: true });
  }

  #write(record: VolumeRecord): Promise<void> {
    return this.#publish(volumeRecord(this.#image), encodeRecord(record));
  }

  async #publish(path: string, bytes: Uint8Array): Promise<void> {
    const pending = await this.#access.fileSystem.createPending(path, { overwrite: true });
    try {
      if (bytes.length > 0) await pending.file.write(bytes, 0);
      await pending.publish();
    } catch (error) {
      await pending.discard();
      throw error;
    }
  }
}

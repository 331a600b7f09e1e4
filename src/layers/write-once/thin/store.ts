/**
 * Making, opening and deleting thin write-once devices: a data file, and beside it `PATH.map` (and `PATH.map-lock`).
 *
 * Invariants: the data file appears last and goes first, so without it there is no device, whatever else is left; the
 * map says by an id to which data file it belongs.
 */

import { isVhdkitError } from '../../../base/errors.js';
import type { RandomSource } from '../../../base/random.js';
import { type Claims, openClaims } from '../../../io/claims.js';
import type { FileSystem } from '../../../io/file-system.js';
import { LmdbMap } from '../../../io/lmdb-map.js';
import type { RandomAccessFile } from '../../../io/random-access-file.js';
import {
  assertExpected,
  chunkCount,
  type Expectations,
  notEmpty,
  shapeProblem,
  type WriteOnceShape,
  writeOnceCorrupt,
} from '../shape.js';
import { DEVICE_ID_BYTES, encodeThinHeader, FIRST_SLOT, readThinHeader } from './header.js';
import { MAPS, SlotPool, sweepSlots } from './slots.js';
import { ThinWriteOnceDevice } from './thin-device.js';

interface ThinAccess {
  fileSystem: FileSystem;
  random: RandomSource;
}

/** What the map says of the device, under the key `device`. */
interface MapHeader extends WriteOnceShape {
  format: string;
  version: number;
  deviceId: string;
}

const FORMAT = 'vhdkit thin write-once device';
const KEY = 'device';
/** Map file: more than an entry ever takes, twice, because pages are replaced and not changed. */
const BYTES_PER_CHUNK = 128;
const SMALLEST_MAP = 64 * 1024 * 1024;
/** Address space, not storage. */
const LARGEST_MAP = 256 * 1024 ** 3;

function mapPath(path: string): string {
  return `${path}.map`;
}

/** Bytes that the map may grow to. Before the size is known: what is enough to look. */
function limitFor(chunks: number): number {
  return Math.min(LARGEST_MAP, Math.max(SMALLEST_MAP, chunks * BYTES_PER_CHUNK));
}

/** @throws ALREADY_EXISTS unless `overwrite`, NO_SPACE, UNSUPPORTED (the package lmdb is missing), … */
export async function createThin(
  path: string,
  shape: WriteOnceShape,
  { fileSystem, random }: ThinAccess,
  overwrite: boolean,
): Promise<void> {
  const pending = await fileSystem.createPending(path, { overwrite });
  try {
    const deviceId = random.bytes(DEVICE_ID_BYTES);
    await pending.file.write(encodeThinHeader(deviceId), 0);
    await pending.file.truncate(FIRST_SLOT);
    if (overwrite && (await fileSystem.kind(path)) !== 'absent') await deleteThin(path, fileSystem);
    // Of a device that was deleted, or not finished.
    await removeMap(path, fileSystem);
    const map = await LmdbMap.open(mapPath(path), { maps: MAPS, limit: limitFor(chunkCount(shape)) });
    const header: MapHeader = {
      format: FORMAT,
      version: 1,
      deviceId: Buffer.from(deviceId).toString('hex'),
      ...shape,
    };
    try {
      map.change((change) => change.putText(KEY, JSON.stringify(header)));
    } finally {
      await map.close();
    }
    await pending.publish();
  } catch (error) {
    await pending.discard();
    throw error;
  }
}

async function removeMap(path: string, fileSystem: FileSystem): Promise<void> {
  for (const name of [mapPath(path), `${mapPath(path)}-lock`])
    await fileSystem.remove(name).catch((error: unknown) => {
      if (!(isVhdkitError(error) && error.code === 'NOT_FOUND')) throw error;
    });
}

/** Whoever calls it has made sure that nobody uses the device. @throws NOT_FOUND, PERMISSION_DENIED */
export async function deleteThin(path: string, fileSystem: FileSystem): Promise<void> {
  await fileSystem.remove(path);
  await removeMap(path, fileSystem);
}

function parseHeader(text: string | undefined, path: string, deviceId: string): MapHeader {
  let header: Partial<MapHeader> = {};
  try {
    header = JSON.parse(text ?? '{}') as Partial<MapHeader>;
  } catch {
    // Said below.
  }
  const { size, chunkSize, primaryId } = header;
  const shape = { size: Number(size), chunkSize: Number(chunkSize), primaryId: String(primaryId ?? '') };
  if (header.format !== FORMAT || header.version !== 1 || shapeProblem(shape) !== undefined)
    throw writeOnceCorrupt('WRITE_ONCE_MAP_DAMAGED', 'its map does not say what it is', { path });
  if (header.deviceId !== deviceId)
    throw writeOnceCorrupt('WRITE_ONCE_MAP_DAMAGED', 'its map belongs to another device', { path });
  return { format: FORMAT, version: 1, deviceId, ...shape };
}

async function assertMap(path: string, fileSystem: FileSystem): Promise<void> {
  const there = mapPath(path);
  if ((await fileSystem.kind(there)) === 'absent')
    throw writeOnceCorrupt('WRITE_ONCE_MAP_DAMAGED', `its map ${there} is missing`, { path });
}

/** Whether there is a device, as far as that can be told without its map. @throws IMAGE_CORRUPT, IO_FAILED */
export async function lookAtThin(file: RandomAccessFile, fileSystem: FileSystem): Promise<void> {
  await readThinHeader(file);
  await assertMap(file.path, fileSystem);
}

/** The map of a device, opened with room for what it says. */
async function openMap(
  path: string,
  deviceId: string,
  fileSystem: FileSystem,
  readOnly: boolean,
): Promise<{ map: LmdbMap; shape: WriteOnceShape }> {
  const there = mapPath(path);
  await assertMap(path, fileSystem);
  const look = await LmdbMap.open(there, { maps: MAPS, limit: SMALLEST_MAP, readOnly });
  let shape: WriteOnceShape;
  try {
    shape = parseHeader(
      look.read((view) => view.text(KEY)),
      path,
      deviceId,
    );
  } finally {
    await look.close();
  }
  return {
    map: await LmdbMap.open(there, { maps: MAPS, limit: limitFor(chunkCount(shape)), readOnly }),
    shape,
  };
}

/** On failure the file is closed. @throws WRITE_ONCE_MISMATCH, IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED */
export async function openThin(
  file: RandomAccessFile,
  expected: Expectations,
  { fileSystem, random }: ThinAccess,
): Promise<ThinWriteOnceDevice> {
  const { path } = file;
  const opened: { close(): Promise<void> }[] = [file];
  try {
    const { map, shape } = await openMap(path, await readThinHeader(file), fileSystem, !file.writable);
    opened.push(map);
    assertExpected(path, shape, expected);
    let claims: Claims | undefined;
    let slots: SlotPool | undefined;
    if (file.writable) {
      claims = await openClaims(fileSystem, file);
      opened.push(claims);
      await sweepSlots(map, claims, async (slot) => {
        await file.punch?.(FIRST_SLOT + slot * shape.chunkSize, shape.chunkSize);
      });
      slots = await SlotPool.open(map, claims, (count) => random.bytes(count));
    }
    const writer = claims && slots && { claims, slots };
    const mapBytes = async (): Promise<number> => {
      const bytes = await fileSystem.open(mapPath(path));
      try {
        return await bytes.allocatedBytes();
      } finally {
        await bytes.close();
      }
    };
    const device = new ThinWriteOnceDevice(file, map, shape, writer, mapBytes);
    opened.splice(0, opened.length, device);
    if (expected.empty) for await (const _ of device.written()) throw notEmpty(path);
    return device;
  } catch (error) {
    for (const each of opened.reverse()) await each.close();
    throw error;
  }
}

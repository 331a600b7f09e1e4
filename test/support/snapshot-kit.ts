/**
 * A raw image with snapshots on a disk that records writes: opened as commands open it, but without locks.
 */
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { systemTimer } from '../../src/base/timer.js';
import type { FileSystem } from '../../src/io/file-system.js';
import {
  type AttachedSet,
  attachSnapshots,
  rawDisk,
  type SnapshotAccess,
  type SnapshotSet,
} from '../../src/layers/snapshots.js';

export const IMAGE = 'disk.img';
export const FOLDER = 'disk.img.vhdkit-snapshots';

export function accessOf(fileSystem: FileSystem): SnapshotAccess {
  return {
    fileSystem,
    clock: systemClock,
    random: systemRandom,
    timer: systemTimer,
    makeFolder: async () => undefined,
    removeFolder: async () => undefined,
    self: { pid: 1, host: 'here', boot: 'once' },
  };
}

export async function attachTo(fileSystem: FileSystem): Promise<AttachedSet> {
  const file = await fileSystem.open(IMAGE, { writable: true });
  const disk = rawDisk(file, systemTimer);
  return attachSnapshots(disk, file, accessOf(fileSystem), { folder: FOLDER, writable: true });
}

export async function readAll(device: {
  size: number;
  read(buffer: Uint8Array, offset: number): Promise<void>;
}): Promise<Uint8Array> {
  const bytes = new Uint8Array(device.size);
  await device.read(bytes, 0);
  return bytes;
}

export function namesOf(set: SnapshotSet): string[] {
  return set.store.record.snapshots.map(({ name }) => name);
}

/** Where two contents differ first; -1 where nowhere. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (Buffer.compare(a, b) === 0) return -1;
  return a.findIndex((byte, index) => byte !== b[index]);
}

export function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed * 31 + (index >> 8)) & 0xff);
}

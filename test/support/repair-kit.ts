/**
 * Damaged images by recipe, and repairing them on a disk in memory.
 */
import { systemRandom } from '../../src/base/random.js';
import { systemTimer } from '../../src/base/timer.js';
import type { FormatId } from '../../src/formats/disk-image.js';
import { createImage, openImage } from '../../src/formats/registry.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import { type CheckResult, check } from '../../src/operations/check.js';
import type { Host } from '../../src/operations/host.js';
import { type RepairLevel, type RepairResult, repair } from '../../src/operations/repair.js';
import { CrashDisk, type CrashState } from './crash-disk.js';
import { seededBytes } from './sample-disk.js';

export const MiB = 1024 ** 2;
export const IMAGE = 'disk.img';
const NOW = Date.UTC(2026, 0, 2, 3, 4, 5);

export function hostOn(disk: CrashDisk): Host {
  return {
    fileSystem: disk.fileSystem(),
    clock: { now: () => NOW },
    random: systemRandom,
    timer: systemTimer,
  };
}

export function diskWith(image: Uint8Array): CrashDisk {
  // A copy that shares nothing, whatever kind of bytes it is.
  return new CrashDisk([[IMAGE, Uint8Array.from(image)]]);
}

export function repairOn(disk: CrashDisk, level: RepairLevel, dryRun = false): Promise<RepairResult> {
  return repair(hostOn(disk), { path: IMAGE, level, dryRun });
}

export function checkOn(disk: CrashDisk): Promise<CheckResult> {
  return check(hostOn(disk), { path: IMAGE });
}

export function codesOf(findings: readonly { code: string }[]): string[] {
  return [...new Set(findings.map(({ code }) => code))].sort();
}

/** What the first 64 MiB of an image show; null for ranges that can't be read. 64 KiB at a time. */
export async function shownBy(image: Uint8Array): Promise<(Buffer | null)[]> {
  const opened = await openImage(new MemoryFile(image, IMAGE), {});
  const parts: (Buffer | null)[] = [];
  const step = 64 * 1024;
  for (let at = 0; at < Math.min(opened.virtualSize, 64 * MiB); at += step) {
    const length = Math.min(step, opened.virtualSize - at);
    const part = Buffer.alloc(length);
    try {
      for (const extent of await opened.locate(at, length)) {
        if (extent.state !== 'data') continue;
        const from = extent.offset - at;
        await extent.file.read(part.subarray(from, from + extent.length), extent.fileOffset);
      }
      parts.push(part);
    } catch {
      parts.push(null);
    }
  }
  return parts;
}

/** An image of 6 MiB in blocks of 1 MiB; blocks 0, 2, 3 and 5 hold data. */
export async function soundImage(format: FormatId, type: 'dynamic' | 'fixed' = 'dynamic'): Promise<Buffer> {
  const file = new MemoryFile(new Uint8Array(0), IMAGE);
  const image = await createImage(file, format, {
    type,
    virtualSize: 6 * MiB,
    ...(format === 'vhd' && type === 'fixed' ? {} : { blockSize: MiB }),
    clock: { now: () => NOW },
    random: systemRandom,
  });
  for (const block of [0, 2, 3, 5]) {
    const offset = block * MiB;
    const content = seededBytes(MiB, block + 1);
    const prepared = await image.prepareWrite(offset, MiB);
    for (const place of prepared.places) {
      const from = place.offset - offset;
      await place.file.write(content.subarray(from, from + place.length), place.fileOffset);
    }
    await prepared.commit();
  }
  await image.flush();
  return Buffer.from(file.bytes());
}

/** The backup that a repair left. */
export function backupOf(state: CrashState): string | undefined {
  return [...state.keys()].find((name) => name.startsWith(`${IMAGE}.vhdkit-repair-`));
}

/**
 * A repair at every instant at which a machine could stop: what could be read still reads the same, the backup
 * leads back to the first byte, and the same repair run again ends where an undisturbed one does.
 */
import { describe, expect, it } from 'vitest';
import { undoRepair } from '../../src/operations/repair/undo.js';
import { CrashDisk, type CrashState, type Instant } from '../support/crash-disk.js';
import { backupOf, codesOf, diskWith, hostOn, IMAGE, repairOn, shownBy } from '../support/repair-kit.js';
import { batEntry, buildVhdx, LOG_GUID, logPage, MIB, putLogEntry } from '../support/vhdx-builder.js';
import { AT, smallDynamic } from '../unit/formats/vhd/images.js';

interface Case {
  name: string;
  build(): Promise<Uint8Array>;
  /** Blocks that are dropped. */
  dropped: number[];
  every: number;
}

const cases: Case[] = [
  {
    name: 'a VHD whose front copy and header checksum are damaged, with space to give back',
    dropped: [],
    every: 1,
    async build() {
      const bytes = await smallDynamic();
      bytes.fill(0x55, 100, 200).fill(7, AT.headerChecksum, AT.headerChecksum + 4);
      bytes.writeUInt32BE(0xffff_ffff, AT.bat);
      return bytes;
    },
  },
  {
    name: 'a VHD without a footer at the end, whose last block is cut off, and with an entry outside the file',
    dropped: [3],
    every: 1,
    async build() {
      const bytes = await smallDynamic();
      bytes.writeUInt32BE(0x00ff_ffff, AT.bat + 3 * 4);
      return bytes.subarray(0, AT.endFooter - 1000);
    },
  },
  {
    name: 'a VHD with two blocks in one place and data that a bitmap hides',
    dropped: [3],
    every: 1,
    async build() {
      const bytes = await smallDynamic();
      bytes.copy(bytes, AT.bat + 3 * 4, AT.bat + 2 * 4, AT.bat + 3 * 4);
      return bytes.fill(0, AT.firstBitmap, AT.firstBitmap + 2);
    },
  },
  {
    name: 'a VHDX with a log, one region table, blocks that share space and odd entries',
    dropped: [2],
    every: 4,
    async build() {
      const block = (index: number) => ({ index, data: [{ offset: 0, bytes: logPage(index) }] });
      const description = { virtualSize: 4 * MIB, blocks: [block(0), block(1)], logGuid: LOG_GUID };
      const built = await buildVhdx(description);
      const { file, places } = built;
      const [first = 0, second = 0] = [places.payload.get(0), places.payload.get(1)];
      await file.write(batEntry(6, second / MIB), places.entryOf(2));
      await file.write(batEntry(5, 0), places.entryOf(3));
      await file.write(new Uint8Array(64).fill(1), 256 * 1024 + 40);
      await file.write(batEntry(0, 9), places.bitmapEntryOf(0));
      await putLogEntry(built, 0, { sequence: 1n, updates: [{ offset: first + 8192, page: logPage(9) }] });
      return file.bytes();
    },
  },
];

type Shown = (Buffer | null)[];

/** Ranges of what was shown that still must be. */
function kept(before: Shown, after: Shown, dropped: readonly number[], blockSize: number): boolean {
  return before.every((part, index) => {
    const isDropped = dropped.some((block) => block === Math.floor((index * 65536) / blockSize));
    return isDropped || !part || after[index]?.equals(part) === true;
  });
}

async function isUndone({ state, label }: Instant, image: Uint8Array): Promise<void> {
  const backup = backupOf(state);
  const now = state.get(IMAGE) ?? Buffer.alloc(0);
  if (backup === undefined) {
    expect(Buffer.compare(now, image), `${label}: changed without a backup`).toBe(0);
    return;
  }
  const disk = new CrashDisk(state);
  await undoRepair(hostOn(disk), { path: IMAGE, backup });
  const undone = disk.files().get(IMAGE) ?? Buffer.alloc(0);
  expect(Buffer.compare(undone, image), `${label}: not as it was`).toBe(0);
}

async function ends(state: CrashState): Promise<{ shown: Shown; codes: string[]; refused: string[] }> {
  const disk = new CrashDisk(state);
  const result = await repairOn(disk, 'all');
  const shown = await shownBy(disk.files().get(IMAGE) ?? Buffer.alloc(0));
  return { shown, codes: codesOf(result.findings), refused: result.refused };
}

describe('a crash while an image is repaired', () => {
  it.each(cases)('$name', async ({ build, dropped, every }) => {
    const image = Uint8Array.from(await build());
    const before = await shownBy(image);
    const disk = diskWith(image);
    disk.start();
    const result = await repairOn(disk, 'all');
    disk.stop();
    expect(result).toMatchObject({ findings: [], refused: [], verdict: 'clean' });
    expect(result.dropped.map(({ block }) => block)).toEqual(dropped);
    const after = await shownBy(disk.files().get(IMAGE) ?? Buffer.alloc(0));
    const blockSize = image.length > MIB ? MIB : 65536;
    // Small VHDs are one piece of 64 KiB: they are compared as a whole, unless something was unreadable.
    if (dropped.length === 0 || blockSize === MIB) expect(kept(before, after, dropped, blockSize)).toBe(true);
    let states = 0;
    for (const instant of disk.states({ reorderings: 2, every })) {
      await isUndone(instant, image);
      const end = await ends(instant.state);
      expect({ codes: end.codes, refused: end.refused }, instant.label).toEqual({ codes: [], refused: [] });
      expect(kept(after, end.shown, [], MIB), instant.label).toBe(true);
      states += 1;
    }
    expect(states).toBeGreaterThan(20);
  });
});

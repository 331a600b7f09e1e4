/** `check --repair` from end to end, on disks in memory. */
import { describe, expect, it } from 'vitest';
import { undoRepair } from '../../../../src/operations/repair/undo.js';
import {
  backupOf,
  checkOn,
  codesOf,
  diskWith,
  hostOn,
  IMAGE,
  MiB,
  repairOn,
  shownBy,
  soundImage,
} from '../../../support/repair-kit.js';

/** Where two files differ first, and their lengths; undefined when they do not. */
function difference(a: Uint8Array = new Uint8Array(0), b: Uint8Array): object | undefined {
  if (Buffer.compare(a, b) === 0) return undefined;
  const first = b.findIndex((byte, index) => a[index] !== byte);
  const last = b.findLastIndex((byte, index) => a[index] !== byte);
  return { first, last, lengths: [a.length, b.length] };
}

/** Offset of the block table of a dynamic VHD. */
function batOf(image: Buffer): number {
  return Number(image.readBigUInt64BE(512 + 16));
}

describe('a dynamic VHD', () => {
  it('that is sound is not touched', async () => {
    const image = await soundImage('vhd');
    const disk = diskWith(image);
    const result = await repairOn(disk, 'all');
    expect(result).toMatchObject({ verdict: 'clean', findings: [], repaired: [], dropped: [], backup: null });
    expect([...disk.files().keys()]).toEqual([IMAGE]);
    expect(Buffer.compare(disk.files().get(IMAGE) ?? Buffer.alloc(0), image)).toBe(0);
  });

  it('loses the entry outside the file, and is clean; the way back gives the original bytes', async () => {
    const image = await soundImage('vhd');
    image.writeUInt32BE(0x00ff_ffff, batOf(image) + 2 * 4);
    const before = await shownBy(image);
    const disk = diskWith(image);
    const result = await repairOn(disk, 'all');
    expect(result).toMatchObject({
      verdict: 'clean',
      findings: [],
      refused: [],
      droppedCount: 1,
      dropped: [{ block: 2, diskOffset: 2 * MiB, length: MiB, entry: '00ffffff' }],
    });
    expect(codesOf(result.repaired)).toContain('VHD_BAT_ENTRY_OUTSIDE_FILE');
    const after = await shownBy(Buffer.from(disk.files().get(IMAGE) ?? []));
    for (const [index, part] of before.entries()) if (part) expect(after[index]?.equals(part)).toBe(true);
    const backup = backupOf(disk.files());
    expect(result.backup).toBe(backup);
    await undoRepair(hostOn(disk), { path: IMAGE, backup: backup ?? '' });
    expect(difference(disk.files().get(IMAGE), image)).toBeUndefined();
  });
});

describe('a VHDX', () => {
  it('loses one of two blocks that share space', async () => {
    const image = await soundImage('vhdx');
    const before = await checkOn(diskWith(image));
    expect(before.findings).toEqual([]);
    const bat = 3 * MiB;
    const entries = Array.from({ length: 6 }, (_, index) => image.readBigUInt64LE(bat + index * 8));
    image.writeBigUInt64LE(entries[2] ?? 0n, bat + 3 * 8);
    const disk = diskWith(image);
    expect(codesOf((await checkOn(disk)).findings)).toContain('VHDX_BAT_ENTRY_OVERLAP');
    const result = await repairOn(disk, 'all');
    expect(result).toMatchObject({ verdict: 'clean', findings: [], refused: [], droppedCount: 1 });
    expect(result.dropped).toMatchObject([{ block: 3, defect: 'VHDX_BAT_ENTRY_OVERLAP' }]);
    await undoRepair(hostOn(disk), { path: IMAGE, backup: result.backup ?? '' });
    expect(difference(disk.files().get(IMAGE), image)).toBeUndefined();
  });
});

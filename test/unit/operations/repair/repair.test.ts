/** `check --repair` from end to end, on disks in memory. */
import { describe, expect, it } from 'vitest';
import { undoRepair } from '../../../../src/operations/repair/undo.js';
import { CrashDisk } from '../../../support/crash-disk.js';
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

describe('undoing', () => {
  async function repaired(): Promise<{ disk: CrashDisk; backup: string; image: Buffer }> {
    const image = await soundImage('vhd');
    image.writeUInt32BE(0x00ff_ffff, batOf(image) + 2 * 4);
    const disk = diskWith(image);
    const { backup } = await repairOn(disk, 'all');
    return { disk, image, backup: backup ?? '' };
  }

  async function write(disk: CrashDisk, name: string, offset: number, bytes: Uint8Array): Promise<void> {
    const file = await disk.fileSystem().open(name, { writable: true });
    await file.write(bytes, offset);
  }

  it('is refused when the image was changed since, unless forced', async () => {
    const { disk, backup, image } = await repaired();
    await write(disk, IMAGE, batOf(image), Buffer.alloc(4, 0xff));
    const refused = undoRepair(hostOn(disk), { path: IMAGE, backup });
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await undoRepair(hostOn(disk), { path: IMAGE, backup, force: true });
    expect(difference(disk.files().get(IMAGE), image)).toBeUndefined();
  });

  it('is refused when the backup is damaged, before anything is written', async () => {
    const { disk, backup } = await repaired();
    const before = disk.files().get(IMAGE) ?? Buffer.alloc(0);
    const text = Buffer.from(disk.files().get(backup) ?? []);
    await write(disk, backup, text.indexOf('"bytes":"') + 20, Buffer.from('!!!!'));
    const refused = undoRepair(hostOn(disk), { path: IMAGE, backup });
    await expect(refused).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    expect(difference(disk.files().get(IMAGE), before)).toBeUndefined();
  });

  it('is refused with a file that is no backup', async () => {
    const { disk } = await repaired();
    const refused = undoRepair(hostOn(disk), { path: IMAGE, backup: IMAGE });
    await expect(refused).rejects.toThrow();
  });

  it('can be stopped at any instant and repeated', async () => {
    const { disk, backup, image } = await repaired();
    disk.start();
    await undoRepair(hostOn(disk), { path: IMAGE, backup });
    disk.stop();
    for (const { state, label } of disk.states()) {
      const again = new CrashDisk(state);
      await undoRepair(hostOn(again), { path: IMAGE, backup });
      expect(difference(again.files().get(IMAGE), image), label).toBeUndefined();
    }
  });
});

describe('only space', () => {
  it('is given back with `leaks`; damaged copies stay as they are when nothing leaks', async () => {
    const image = await soundImage('vhd');
    image.fill(0x55, 100, 200);
    const disk = diskWith(image);
    const result = await repairOn(disk, 'leaks');
    expect(result).toMatchObject({ repaired: [], backup: null });
    expect(codesOf(result.findings)).toEqual(['VHD_FOOTER_COPY_DAMAGED']);
    expect(difference(disk.files().get(IMAGE), image)).toBeUndefined();
  });

  it('is foreseen by a dry run', async () => {
    const image = await soundImage('vhd');
    image.writeUInt32BE(0xffff_ffff, batOf(image) + 2 * 4);
    const disk = diskWith(image);
    const foreseen = await repairOn(disk, 'leaks', true);
    expect(codesOf(foreseen.repaired)).toEqual(['VHD_UNUSED_SPACE']);
    expect(foreseen).toMatchObject({ dryRun: true, backup: null, verdict: 'leaks' });
    expect(difference(disk.files().get(IMAGE), image)).toBeUndefined();
    const done = await repairOn(disk, 'leaks');
    expect(codesOf(done.repaired)).toEqual(['VHD_UNUSED_SPACE']);
    expect(done.verdict).toBe('clean');
    expect(disk.files().get(IMAGE)?.length).toBe(image.length - MiB - 4096);
  });
});

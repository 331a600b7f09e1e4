/**
 * What profiles want to know of a disk's contents: its partition table, and whether it is one file system.
 *
 * Reads a few sectors. What can't be made sense of is 'other', never an error.
 */
import type { Locator } from '../../block/extent.js';
import type { SectorSize } from '../../formats/disk-image.js';
import { readDisk } from '../../formats/image-reader.js';
import { findPartitionTable } from '../../guestfs/partition-table.js';
import type { DiskContents } from './rule.js';

/** Source: ext4 disk layout, "The Super Block": at 1024, s_magic at 56. */
const EXT4_MAGIC_OFFSET = 1024 + 56;
const EXT4_MAGIC = 0xef53;

async function wholeDiskSystem(disk: Locator): Promise<DiskContents['wholeDisk']> {
  if (disk.virtualSize < EXT4_MAGIC_OFFSET + 2) return 'other';
  const magic = Buffer.alloc(2);
  await readDisk(disk, magic, EXT4_MAGIC_OFFSET);
  return magic.readUInt16LE() === EXT4_MAGIC ? 'ext4' : 'other';
}

/** @throws IO_FAILED, IMAGE_CORRUPT */
export async function contentsOf(disk: Locator, sectorSize: SectorSize): Promise<DiskContents> {
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const buffer = new Uint8Array(length);
    await readDisk(disk, buffer, offset);
    return buffer;
  };
  const table = await findPartitionTable(read, disk.virtualSize, sectorSize);
  if (!table) return { partitionTable: 'none', wholeDisk: (await wholeDiskSystem(disk)) ?? 'other' };
  if (table.kind === 'mbr') return { partitionTable: 'mbr' };
  if (table.kind !== 'gpt') return { partitionTable: 'damaged' };
  const { myLba, alternateLba } = table.valid.header;
  return {
    partitionTable: 'gpt',
    gptBackupOffset: Math.max(myLba, alternateLba) * table.sectorSize,
  };
}

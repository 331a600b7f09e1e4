/**
 * What is known of an image before and after it is compacted: its storage, and what is free on its disk.
 */
import type { Chain } from '../../formats/chain.js';
import type { DiskImage } from '../../formats/disk-image.js';
import { readDisk } from '../../formats/image-reader.js';
import { type DiskFreeSpace, readFreeSpace } from '../../guestfs/free-space-map.js';
import { fragmentation } from '../layout-facts.js';
import type { StorageFacts } from './types.js';

export async function storageOf(image: DiskImage): Promise<StorageFacts> {
  const layout = await image.layout();
  return {
    fileSize: image.file.size(),
    allocatedBytes: await image.file.allocatedBytes(),
    allocatedBlocks: layout.allocatedBlocks,
    fragmentation: fragmentation(layout),
  };
}

/** What is free, walked through once: a file system that contradicts itself half-way gives back nothing. */
export async function freeSpaceOf(chain: Chain): Promise<DiskFreeSpace> {
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = Buffer.alloc(length);
    await readDisk(chain, bytes, offset);
    return bytes;
  };
  const { format, logicalSectorSize } = chain.top;
  const known = format === 'raw' ? {} : { sectorSize: logicalSectorSize };
  const map = await readFreeSpace(read, chain.virtualSize, known);
  for await (const _range of map.ranges());
  return map;
}

import { describe, expect, it } from 'vitest';
import { assumedSectorSize, HEAD_BYTES } from '../../../src/guestfs/assumed-sector-size.js';

/** Bytes at an offset. */
type Put = [at: number, bytes: string | number[]];

function head(puts: readonly Put[]): Buffer {
  const out = Buffer.alloc(HEAD_BYTES);
  for (const [at, bytes] of puts) out.set(Buffer.from(bytes as string), at);
  return out;
}

const SIGNATURE: Put = [510, [0x55, 0xaa]];
const EXT_MAGIC: Put = [1024 + 56, [0x53, 0xef]];

describe('the sector size a file system assumes', () => {
  it.each<[string, number, boolean, Put[]]>([
    [
      'NTFS',
      512,
      false,
      [
        [3, 'NTFS    '],
        [11, [0, 2]],
      ],
    ],
    [
      'exFAT',
      4096,
      false,
      [
        [3, 'EXFAT   '],
        [108, [12]],
      ],
    ],
    ['FAT', 512, false, [[82, 'FAT32   '], [11, [0, 2]], SIGNATURE]],
    ['FAT', 4096, false, [[54, 'FAT16   '], [11, [0, 16]], SIGNATURE]],
    [
      'XFS',
      512,
      true,
      [
        [0, 'XFSB'],
        [102, [2, 0]],
      ],
    ],
    ['ext2/3/4', 1024, true, [EXT_MAGIC]],
    ['ext2/3/4', 2048, true, [EXT_MAGIC, [1024 + 24, [1]]]],
  ])('is known of %s (%d)', (fileSystem, bytes, worksOnSmaller, puts) => {
    expect(assumedSectorSize(head(puts))).toEqual({ fileSystem, bytes, worksOnSmaller });
  });

  it.each<[string, Put[]]>([
    ['nothing', []],
    ['ext4 with blocks of 4 KiB', [EXT_MAGIC, [1024 + 24, [2]]]],
    [
      'exFAT with an absurd exponent',
      [
        [3, 'EXFAT   '],
        [108, [255]],
      ],
    ],
    [
      'NTFS with a size of no power of two',
      [
        [3, 'NTFS    '],
        [11, [0x58, 2]],
      ],
    ],
    [
      'FAT without a signature',
      [
        [82, 'FAT32   '],
        [11, [0, 2]],
      ],
    ],
  ])('is not claimed of %s', (_name, puts) => {
    expect(assumedSectorSize(head(puts))).toBeUndefined();
  });
});

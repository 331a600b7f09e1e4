/**
 * Fixed positions, sizes, limits and GUIDs of a VHDX file (MS-VHDX 2.1–2.6), and the content probe.
 *
 * Invariant: nothing here depends on a particular file. Limits marked "ours" are not in the
 * specification; they bound what a hostile file can make this program do.
 */
import { GiB, KiB, MiB, TiB } from '../../base/bytes.js';

export const IDENTIFIER_OFFSET = 0;
export const IDENTIFIER_LENGTH = 64 * KiB;
export const HEADER_OFFSETS: readonly number[] = [64 * KiB, 128 * KiB];
export const HEADER_LENGTH = 4 * KiB;
export const REGION_TABLE_OFFSETS: readonly number[] = [192 * KiB, 256 * KiB];
export const REGION_TABLE_LENGTH = 64 * KiB;
/** Everything behind the header section starts at a multiple of this (MS-VHDX 2.1). */
export const PLACEMENT_UNIT = MiB;
/** End of the header section: the first offset where log, regions and blocks may be. */
export const HEADER_SECTION_END = MiB;
/** The log may repair the region tables and what follows, never the identifier and the headers. */
export const FIRST_LOGGED_OFFSET = 192 * KiB;

/** Entries in a region table or metadata table (MS-VHDX 2.2.3.1, 2.6.1.1). */
export const MAX_TABLE_ENTRIES = 2047;
export const METADATA_TABLE_LENGTH = 64 * KiB;
export const MAX_METADATA_ITEM_LENGTH = MiB;
export const MAX_USER_ITEMS = 1024;

export const MIN_BLOCK_SIZE = MiB;
export const MAX_BLOCK_SIZE = 256 * MiB;
export const MAX_VIRTUAL_SIZE = 64 * TiB;
/** Logical sectors that one sector bitmap block describes (MS-VHDX 2.5.1.2). */
export const SECTORS_PER_CHUNK = 2 ** 23;
export const SECTOR_BITMAP_LENGTH = MiB;

/** Ours. A log is 1 MiB in every file seen so far. */
export const MAX_LOG_LENGTH = GiB;
/** Ours. */
export const MAX_METADATA_REGION_LENGTH = 128 * MiB;
/** Ours: what 64 TiB in blocks of 1 MiB need, rounded up. */
export const MAX_BAT_LENGTH = 513 * MiB;
/** Ours. */
export const MAX_LOCATOR_PAIRS = 256;
/** Ours: no structure of a 64 TiB disk is ever as far out as this (256 TiB). */
export const MAX_FILE_OFFSET = 256 * TiB;

export const REGION_GUID = {
  bat: '2dc27766-f623-4200-9d64-115e9bfd4a08',
  metadata: '8b7ca206-4790-4b9a-b8fe-575f050f886e',
} as const;

export const ITEM_GUID = {
  fileParameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  virtualDiskSize: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  virtualDiskId: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  logicalSectorSize: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physicalSectorSize: 'cda348c7-445d-4471-9cc9-e9885251c556',
  parentLocator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
} as const;

/** Items outside the specification that occur in files; they say nothing about where data is. */
export const KNOWN_EXTRA_ITEMS: ReadonlyMap<string, string> = new Map([
  ['da02d7bc-3d3a-423c-ac88-2a36ab21479b', 'CHS parameters'],
  ['10e1ae8a-4b7e-4169-a40f-cd70de928393', 'PMEM label'],
]);

/** Required item that marks a file whose creation was not finished. */
export const INCOMPLETE_FILE_GUID = '71cc85f0-1b69-4e28-9558-c3bf83ae75d3';

/** The only parent locator type (MS-VHDX 2.6.2.6.1): the parent is a VHDX file. */
export const VHDX_LOCATOR_TYPE = 'b04aefb7-d19e-4a81-b789-25b8e9445913';

const SIGNATURE = 'vhdxfile';

/** True when the file begins like a VHDX file; eight bytes are enough. */
export function isVhdx(head: Uint8Array): boolean {
  return hasSignature(head, 0, SIGNATURE);
}

/** True when the ASCII text is at the offset. */
export function hasSignature(bytes: Uint8Array, offset: number, signature: string): boolean {
  if (bytes.length < offset + signature.length) return false;
  for (let at = 0; at < signature.length; at += 1) {
    if (bytes[offset + at] !== signature.charCodeAt(at)) return false;
  }
  return true;
}

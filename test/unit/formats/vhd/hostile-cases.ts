/**
 * Damaged and lying VHDs, one defect each.
 *
 * `error`: opening or reading must end in a VhdkitError with this code, defect and (where it is certain)
 * offset. `finding`: the image can be read; the warnings or `check` must name the defect. `same`: the
 * contents must be right all the same.
 */
import { AT, BLOCK, editFooters, editHeader, sealFooter } from './images.js';

export interface HostileCase {
  name: string;
  base: 'dynamic' | 'fixed' | 'child';
  mutate(bytes: Buffer): Buffer;
  error?: { code: 'IMAGE_CORRUPT' | 'UNSUPPORTED'; defect: string; offset?: number };
  finding?: string;
  same?: boolean;
}

const END = AT.endFooter;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

function corrupt(defect: string, offset?: number): Pick<HostileCase, 'error'> {
  return { error: { code: 'IMAGE_CORRUPT', defect, ...(offset === undefined ? {} : { offset }) } };
}

function unsupported(defect: string, offset?: number): Pick<HostileCase, 'error'> {
  return { error: { code: 'UNSUPPORTED', defect, ...(offset === undefined ? {} : { offset }) } };
}

function dynamic(name: string, mutate: HostileCase['mutate'], outcome: Partial<HostileCase>): HostileCase {
  return { name, base: 'dynamic', mutate, ...outcome };
}

const cut = (length: number) => (bytes: Buffer) => bytes.subarray(0, length);
const footers = (edit: (footer: Buffer) => void) => (bytes: Buffer) => editFooters(bytes, edit);
const header = (edit: (header: Buffer) => void) => (bytes: Buffer) => editHeader(bytes, edit);
const poison = (at: number) => (bytes: Buffer) => bytes.fill(Buffer.from('v_poison'), at, at + 8);
const entry = (block: number, value: number) => (bytes: Buffer) => {
  bytes.writeUInt32BE(value, AT.bat + block * 4);
  return bytes;
};

const truncations: HostileCase[] = [
  dynamic('an empty file', cut(0), corrupt('VHD_FOOTER_MISSING', 0)),
  dynamic('one byte', cut(1), corrupt('VHD_FOOTER_MISSING', 0)),
  dynamic('eight bytes of cookie', cut(8), corrupt('VHD_FOOTER_MISSING', 0)),
  dynamic('510 bytes', cut(510), corrupt('VHD_FOOTER_MISSING', 0)),
  dynamic('511 bytes: nothing but a legacy footer', cut(511), corrupt('VHD_HEADER_OUTSIDE_FILE', 16)),
  dynamic('512 bytes: nothing but a footer', cut(512), corrupt('VHD_HEADER_OUTSIDE_FILE', 16)),
  dynamic('cut within the header', cut(1000), corrupt('VHD_HEADER_OUTSIDE_FILE', 16)),
  dynamic('cut before the last byte of the header', cut(1535), corrupt('VHD_HEADER_OUTSIDE_FILE', 16)),
  dynamic('cut behind the header', cut(1536), corrupt('VHD_BAT_OUTSIDE_FILE', AT.tableOffset)),
  dynamic('cut within the block table', cut(1543), corrupt('VHD_BAT_OUTSIDE_FILE', AT.tableOffset)),
  dynamic('cut behind the block table', cut(2048), corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat)),
  dynamic(
    'cut within a sector bitmap',
    cut(AT.firstBitmap + 100),
    corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat),
  ),
  dynamic('cut within the first block', cut(AT.firstData + 5000), corrupt('VHD_BLOCK_CUT', AT.bat)),
  dynamic(
    'cut within the physically last block',
    cut(AT.secondData + BLOCK - 1),
    corrupt('VHD_BLOCK_CUT', AT.bat + 8),
  ),
  dynamic('footer cut off', cut(END), { finding: 'VHD_FOOTER_DAMAGED', same: true }),
  dynamic('cut within the footer', cut(END + 17), { finding: 'VHD_FOOTER_DAMAGED', same: true }),
  dynamic('beginning cut off', (bytes) => bytes.subarray(4096), corrupt('VHD_HEADER_COOKIE', 512)),
  {
    name: 'fixed: footer cut off',
    base: 'fixed',
    mutate: cut(4 * BLOCK),
    ...corrupt('VHD_FOOTER_MISSING', 4 * BLOCK - 512),
  },
  {
    name: 'fixed: beginning cut off',
    base: 'fixed',
    mutate: (bytes) => bytes.subarray(512),
    ...corrupt('VHD_FIXED_TRUNCATED', 4 * BLOCK - 512 + 48),
  },
  {
    name: 'fixed: nothing but the footer',
    base: 'fixed',
    mutate: (bytes) => bytes.subarray(4 * BLOCK),
    ...corrupt('VHD_FIXED_TRUNCATED', 48),
  },
];

const footerLies: HostileCase[] = [
  dynamic(
    'both cookies lost',
    (bytes) => bytes.fill(0, 0, 8).fill(0, END, END + 8),
    corrupt('VHD_FOOTER_MISSING', END),
  ),
  dynamic('poisoned at the end', poison(END), unsupported('VHD_POISONED', END)),
  dynamic('poisoned at the beginning', poison(0), unsupported('VHD_POISONED', 0)),
  ...[0, 1, 5, 6].map((type) =>
    dynamic(
      `type ${type}`,
      footers((footer) => footer.writeUInt32BE(type, 60)),
      unsupported('VHD_TYPE_UNSUPPORTED', END + 60),
    ),
  ),
  ...[7, 0x01000000, 0xffffffff].map((type) =>
    dynamic(
      `type ${type}`,
      footers((footer) => footer.writeUInt32BE(type, 60)),
      corrupt('VHD_TYPE_INVALID', END + 60),
    ),
  ),
  dynamic(
    'format version 2',
    footers((footer) => footer.writeUInt32BE(0x20000, 12)),
    unsupported('VHD_FOOTER_VERSION', END + 12),
  ),
  ...[0n, 2n ** 46n + 512n, 2n ** 53n, 2n ** 63n, ALL_ONES].map((size) =>
    dynamic(
      `a size of ${size}`,
      footers((footer) => footer.writeBigUInt64BE(size, 48)),
      corrupt('VHD_SIZE_INVALID', END + 48),
    ),
  ),
  dynamic(
    'a size of 64 TiB over four blocks',
    footers((footer) => footer.writeBigUInt64BE(2n ** 46n, 48)),
    corrupt('VHD_BAT_TOO_SMALL', AT.entries),
  ),
  dynamic(
    'one sector more than the table covers',
    footers((footer) => footer.writeBigUInt64BE(BigInt(4 * BLOCK + 512), 48)),
    corrupt('VHD_BAT_TOO_SMALL', AT.entries),
  ),
  dynamic(
    'says it is fixed',
    footers((footer) => footer.writeUInt32BE(2, 60)),
    corrupt('VHD_FIXED_TRUNCATED', END + 48),
  ),
  ...[0n, 511n, BigInt(END - 1023), BigInt(AT.length), 2n ** 53n, 2n ** 63n, ALL_ONES].map((offset) =>
    dynamic(
      `header at ${offset}`,
      footers((footer) => footer.writeBigUInt64BE(offset, 16)),
      corrupt('VHD_HEADER_OUTSIDE_FILE', END + 16),
    ),
  ),
  dynamic(
    'header where there is none',
    footers((footer) => footer.writeBigUInt64BE(8192n, 16)),
    corrupt('VHD_HEADER_COOKIE', 8192),
  ),
  {
    name: 'fixed: says it is dynamic',
    base: 'fixed',
    mutate: footers((footer) => footer.writeUInt32BE(3, 60)),
    ...corrupt('VHD_HEADER_OUTSIDE_FILE', 4 * BLOCK + 16),
  },
  {
    name: 'fixed: one sector more than there is',
    base: 'fixed',
    mutate: footers((footer) => footer.writeBigUInt64BE(BigInt(4 * BLOCK + 512), 48)),
    ...corrupt('VHD_FIXED_TRUNCATED', 4 * BLOCK + 48),
  },
  {
    name: 'fixed: 64 TiB',
    base: 'fixed',
    mutate: footers((footer) => footer.writeBigUInt64BE(2n ** 46n, 48)),
    ...corrupt('VHD_FIXED_TRUNCATED', 4 * BLOCK + 48),
  },
  dynamic(
    'footers of two different disks',
    (bytes) => {
      bytes.fill(0x77, 68, 84);
      return sealFooter(bytes, 0);
    },
    { finding: 'VHD_FOOTER_COPIES_DIFFER', same: true },
  ),
];

const headerLies: HostileCase[] = [
  dynamic('header cookie lost', (bytes) => bytes.fill(0, 512, 520), corrupt('VHD_HEADER_COOKIE', 512)),
  dynamic(
    'header version 2',
    header((bytes) => bytes.writeUInt32BE(0x20000, 24)),
    unsupported('VHD_HEADER_VERSION', AT.headerVersion),
  ),
  dynamic('header checksum wrong', (bytes) => bytes.fill(0, AT.headerChecksum, AT.headerChecksum + 4), {
    finding: 'VHD_HEADER_CHECKSUM',
    same: true,
  }),
  ...[0, 1, 256, 511, 3 * 4096, 0x80000000, 0x20000000, 0xffffffff].map((size) =>
    dynamic(
      `block size ${size}`,
      header((bytes) => bytes.writeUInt32BE(size, 32)),
      corrupt('VHD_BLOCK_SIZE_INVALID', AT.blockSize),
    ),
  ),
  dynamic(
    'block size 512',
    header((bytes) => bytes.writeUInt32BE(512, 32)),
    corrupt('VHD_BAT_TOO_SMALL', AT.entries),
  ),
  dynamic(
    'block size 256 MiB',
    header((bytes) => bytes.writeUInt32BE(0x10000000, 32)),
    corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat),
  ),
  dynamic(
    'no table entries',
    header((bytes) => bytes.writeUInt32BE(0, 28)),
    corrupt('VHD_BAT_TOO_SMALL', AT.entries),
  ),
  dynamic(
    'an entry too few',
    header((bytes) => bytes.writeUInt32BE(3, 28)),
    corrupt('VHD_BAT_TOO_SMALL', AT.entries),
  ),
  dynamic(
    '2^32 − 1 entries',
    header((bytes) => bytes.writeUInt32BE(0xffffffff, 28)),
    unsupported('VHD_BAT_TOO_LARGE', AT.entries),
  ),
  dynamic(
    'one entry more than handled',
    header((bytes) => bytes.writeUInt32BE(0x1000001, 28)),
    unsupported('VHD_BAT_TOO_LARGE', AT.entries),
  ),
  dynamic(
    'as many entries as handled, not in the file',
    header((bytes) => bytes.writeUInt32BE(0x1000000, 28)),
    corrupt('VHD_BAT_OUTSIDE_FILE', AT.tableOffset),
  ),
  ...[BigInt(END), BigInt(END - 12), 2n ** 53n, 2n ** 63n, ALL_ONES].map((offset) =>
    dynamic(
      `block table at ${offset}`,
      header((bytes) => bytes.writeBigUInt64BE(offset, 16)),
      {
        error: {
          code: 'IMAGE_CORRUPT',
          defect: offset === BigInt(END - 12) ? 'VHD_BAT_OFFSET_INVALID' : 'VHD_BAT_OUTSIDE_FILE',
          offset: AT.tableOffset,
        },
      },
    ),
  ),
  dynamic(
    'block table at no sector boundary',
    header((bytes) => bytes.writeBigUInt64BE(1537n, 16)),
    corrupt('VHD_BAT_OFFSET_INVALID', AT.tableOffset),
  ),
  dynamic(
    'block table over the footer copy',
    header((bytes) => bytes.writeBigUInt64BE(0n, 16)),
    corrupt('VHD_BAT_OVERLAPS_METADATA', AT.tableOffset),
  ),
  dynamic(
    'block table over the header',
    header((bytes) => bytes.writeBigUInt64BE(1024n, 16)),
    corrupt('VHD_BAT_OVERLAPS_METADATA', AT.tableOffset),
  ),
];

const tableLies: HostileCase[] = [
  dynamic('block over the footer copy', entry(0, 0), corrupt('VHD_BAT_ENTRY_IN_METADATA', AT.bat)),
  dynamic('block over the header', entry(1, 1), corrupt('VHD_BAT_ENTRY_IN_METADATA', AT.bat + 4)),
  dynamic('block over the block table', entry(2, 3), corrupt('VHD_BAT_ENTRY_IN_METADATA', AT.bat + 8)),
  dynamic('last block over the block table', entry(3, 3), corrupt('VHD_BAT_ENTRY_IN_METADATA', AT.bat + 12)),
  dynamic('block at 2 TiB − 1 KiB', entry(0, 0xfffffffe), corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat)),
  dynamic(
    'block at 1 TiB, negative as a signed number',
    entry(1, 0x80000000),
    corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat + 4),
  ),
  dynamic(
    'last block at 2 TiB − 1 KiB',
    entry(3, 0xfffffffe),
    corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat + 12),
  ),
  dynamic(
    'block at the end of the file',
    entry(1, AT.length / 512),
    corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat + 4),
  ),
  dynamic('block over the footer', entry(1, END / 512), corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat + 4)),
  dynamic(
    'block that reaches into the footer',
    entry(1, (END - BLOCK) / 512),
    corrupt('VHD_BLOCK_CUT', AT.bat + 4),
  ),
  dynamic(
    'byte offsets instead of sectors',
    entry(0, AT.firstBitmap),
    corrupt('VHD_BAT_ENTRY_OUTSIDE_FILE', AT.bat),
  ),
  dynamic(
    'a table of zeros',
    (bytes) => bytes.fill(0, AT.bat, AT.bat + 512),
    corrupt('VHD_BAT_ENTRY_IN_METADATA', AT.bat),
  ),
  dynamic('two blocks at one place', entry(1, AT.firstBitmap / 512), { finding: 'VHD_BLOCKS_OVERLAP' }),
  dynamic('a block that begins within another', entry(1, AT.firstBitmap / 512 + 1), {
    finding: 'VHD_BLOCKS_OVERLAP',
  }),
  dynamic('a block that ends within another', entry(3, AT.secondBitmap / 512 - 1), {
    finding: 'VHD_BLOCKS_OVERLAP',
  }),
  dynamic('last block cut by the footer', entry(3, (END - 4096) / 512), { finding: 'VHD_BLOCKS_OVERLAP' }),
  dynamic('a bitmap that hides data', (bytes) => bytes.fill(0, AT.firstBitmap, AT.firstBitmap + 512), {
    finding: 'VHD_BITMAP_HIDES_DATA',
  }),
  dynamic('a block that the table forgot', (bytes) => entry(2, 0xffffffff)(bytes), {
    finding: 'VHD_UNUSED_SPACE',
  }),
  dynamic(
    'no unique id',
    footers((footer) => footer.fill(0, 68, 84)),
    { finding: 'VHD_UNIQUE_ID_ZERO', same: true },
  ),
  dynamic(
    'geometry zero',
    footers((footer) => footer.fill(0, 56, 60)),
    { finding: 'VHD_GEOMETRY_ZERO', same: true },
  ),
  dynamic(
    'geometry at its maximum',
    footers((footer) => footer.writeUInt32BE(0xffff10ff, 56)),
    { finding: 'VHD_GEOMETRY_TOO_LARGE', same: true },
  ),
];

const locator = (index: number, edit: (bytes: Buffer) => void) => (bytes: Buffer) =>
  editHeader(bytes, (whole) => edit(whole.subarray(576 + index * 24, 600 + index * 24)));

function child(name: string, mutate: HostileCase['mutate'], outcome: Partial<HostileCase>): HostileCase {
  return { name: `child: ${name}`, base: 'child', mutate, ...outcome };
}

const childLies: HostileCase[] = [
  child(
    'no parent id',
    header((bytes) => bytes.fill(0, 40, 56)),
    unsupported('VHD_PARENT_RAW', AT.parentId),
  ),
  child(
    'locator of 4 GiB',
    locator(0, (bytes) => bytes.writeUInt32BE(0xffffffff, 8)),
    { finding: 'VHD_LOCATOR_INVALID', same: true },
  ),
  child(
    'locator one byte too long',
    locator(0, (bytes) => bytes.writeUInt32BE(65537, 8)),
    { finding: 'VHD_LOCATOR_INVALID', same: true },
  ),
  child(
    'locator that leaves the file',
    locator(1, (bytes) => bytes.writeUInt32BE(60000, 8)),
    { finding: 'VHD_LOCATOR_INVALID', same: true },
  ),
  child(
    'locator without text',
    locator(0, (bytes) => bytes.writeUInt32BE(0, 8)),
    { finding: 'VHD_LOCATOR_INVALID', same: true },
  ),
  child(
    'locator at 2^63',
    locator(1, (bytes) => bytes.writeBigUInt64BE(2n ** 63n, 16)),
    { finding: 'VHD_LOCATOR_INVALID', same: true },
  ),
  child(
    'locator at 2^64 − 1',
    locator(1, (bytes) => bytes.writeBigUInt64BE(ALL_ONES, 16)),
    { finding: 'VHD_LOCATOR_INVALID', same: true },
  ),
  child(
    'block over locator text',
    (bytes) => bytes.fill(Buffer.from([0, 0, 0, 2560 / 512]), 3072, 3076),
    corrupt('VHD_BAT_ENTRY_IN_METADATA', 3072),
  ),
  child(
    'cut within its block',
    (bytes) => bytes.subarray(0, 3584 + 512 + 1000),
    corrupt('VHD_BLOCK_CUT', 3072 + 4),
  ),
  child(
    'block size 0',
    header((bytes) => bytes.writeUInt32BE(0, 32)),
    corrupt('VHD_BLOCK_SIZE_INVALID', AT.blockSize),
  ),
];

export const HOSTILE_CASES: readonly HostileCase[] = [
  ...truncations,
  ...footerLies,
  ...headerLies,
  ...tableLies,
  ...childLies,
];

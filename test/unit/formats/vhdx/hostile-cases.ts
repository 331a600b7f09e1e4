/**
 * Named ways in which a VHDX can be broken, and what each must lead to. Data only; hostile.test.ts runs it.
 */
import { GiB, MiB, TiB } from '../../../../src/base/bytes.js';
import type { ErrorCode } from '../../../../src/base/errors.js';
import { sealChecksum } from '../../../../src/formats/vhdx/binary.js';
import type { VhdxDefect } from '../../../../src/formats/vhdx/defects.js';
import type { VhdxHeader } from '../../../../src/formats/vhdx/header.js';
import type { NewItem } from '../../../../src/formats/vhdx/metadata-table.js';
import type { RegionEntry } from '../../../../src/formats/vhdx/region-table.js';
import {
  type BuiltVhdx,
  batEntry,
  LOG_GUID,
  logPage,
  putLogEntry,
  u32,
  u64,
  type VhdxDescription,
} from '../../../support/vhdx-builder.js';

export interface HostileCase {
  name: string;
  description?: Partial<VhdxDescription>;
  spoil?: (built: BuiltVhdx) => Promise<void>;
  /** Refused when opened or, with `at: 'locate'`, when all of the disk is located. */
  fails?: { at?: 'locate'; defect: VhdxDefect; code?: ErrorCode };
  /** Found by `check` (with this severity), and reading still works unless `fails` says otherwise. */
  finds?: readonly (readonly [VhdxDefect, string])[];
}

const GUID = {
  parameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  size: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  id: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  logical: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physical: 'cda348c7-445d-4471-9cc9-e9885251c556',
  locator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
  unknown: '01234567-89ab-4cde-8f01-23456789abcd',
};
const HEADERS = [64 * 1024, 128 * 1024];
const TABLES = [192 * 1024, 256 * 1024];
const PARENT = { linkage: 'ab12cabe-e6b2-2345-93ef-c309e000c746' };

type Spoil = (built: BuiltVhdx) => Promise<void>;

/** Overwrites bytes at absolute offsets. */
function put(...patches: [number, Uint8Array][]): Spoil {
  return async ({ file }) => {
    for (const [offset, bytes] of patches) await file.write(bytes, offset);
  };
}

const entry =
  (block: number, state: number, offsetMiB: number | bigint): Spoil =>
  async ({ file, places }) =>
    file.write(batEntry(state, offsetMiB), places.entryOf(block));

const bitmapEntry =
  (state: number, offsetMiB: number | bigint): Spoil =>
  async ({ file, places }) =>
    file.write(batEntry(state, offsetMiB), places.bitmapEntryOf(0));

const inMetadata =
  (offset: number, bytes: Uint8Array): Spoil =>
  async ({ file, places }) =>
    file.write(bytes, places.metadata + offset);

const truncate =
  (size: number | ((built: BuiltVhdx) => number)): Spoil =>
  async (built) =>
    built.file.truncate(typeof size === 'number' ? size : size(built));

/** Changes both region tables and makes their checksums right again. */
const inTables =
  (offset: number, bytes: Uint8Array): Spoil =>
  async ({ file }) => {
    for (const start of TABLES) {
      const table = new Uint8Array(65536);
      await file.read(table, start);
      table.set(bytes, offset);
      await file.write(sealChecksum(table, 4), start);
    }
  };

const log =
  (updates: Parameters<typeof putLogEntry>[2]['updates'], more = {}): Spoil =>
  async (built) => {
    await putLogEntry(built, 0, { sequence: 1n, ...(updates ? { updates } : {}), ...more });
  };

const header = (change: Partial<VhdxHeader>) => ({ header: (h: VhdxHeader) => ({ ...h, ...change }) });
const item = (guid: string, bytes: Uint8Array) => ({
  items: (items: NewItem[]) => items.map((one) => (one.guid === guid ? { ...one, bytes } : one)),
});
const without = (guid: string) => ({
  items: (items: NewItem[]) => items.filter((one) => one.guid !== guid),
});
const plus = (extra: NewItem) => ({ items: (items: NewItem[]) => [...items, extra] });
const region = (index: number, change: Partial<RegionEntry>) => ({
  regions: (regions: RegionEntry[]) => regions.map((one, i) => (i === index ? { ...one, ...change } : one)),
});
const extraRegion = (change: Partial<RegionEntry>) => ({
  regions: (regions: RegionEntry[]) => [
    ...regions,
    { guid: GUID.unknown, offset: 4 * MiB, length: MiB, required: false, ...change },
  ],
});
const dirty = { logGuid: LOG_GUID };
const fails = (defect: VhdxDefect, code: ErrorCode = 'IMAGE_CORRUPT') => ({ fails: { defect, code } });
const failsLocate = (defect: VhdxDefect) => ({ fails: { at: 'locate' as const, defect } });

const FILE_AND_HEADERS: HostileCase[] = [
  { name: 'empty file', spoil: truncate(0), ...fails('VHDX_SIGNATURE_MISSING') },
  { name: 'only the signature', spoil: truncate(8), ...fails('VHDX_HEADER_INVALID') },
  { name: 'wrong signature', spoil: put([0, Buffer.from('vhdyfile')]), ...fails('VHDX_SIGNATURE_MISSING') },
  { name: 'cut inside header 1', spoil: truncate((HEADERS[0] ?? 0) + 100), ...fails('VHDX_HEADER_INVALID') },
  { name: 'cut behind the headers', spoil: truncate(192 * 1024), ...fails('VHDX_REGION_TABLE_INVALID') },
  { name: 'cut behind the region tables', spoil: truncate(MiB), ...fails('VHDX_REGION_INVALID') },
  {
    name: 'both header checksums wrong',
    spoil: put([(HEADERS[0] ?? 0) + 5, u32(1)], [(HEADERS[1] ?? 0) + 5, u32(1)]),
    ...fails('VHDX_HEADER_INVALID'),
  },
  {
    name: 'equal sequence numbers, different headers',
    description: {
      header: (h) => ({ ...h, sequence: 5n, dataWriteGuid: h.sequence === 5n ? GUID.id : GUID.size }),
    },
    ...fails('VHDX_HEADERS_AMBIGUOUS'),
  },
  {
    name: 'version 2',
    description: header({ version: 2 }),
    ...fails('VHDX_VERSION_UNSUPPORTED', 'UNSUPPORTED'),
  },
  {
    name: 'version 0',
    description: header({ version: 0 }),
    ...fails('VHDX_VERSION_UNSUPPORTED', 'UNSUPPORTED'),
  },
  {
    name: 'header copy 2 damaged',
    spoil: put([(HEADERS[1] ?? 0) + 100, u32(1)]),
    finds: [['VHDX_HEADER_COPY_DAMAGED', 'warning']],
  },
  {
    name: 'identical twin headers',
    description: header({ sequence: 1n }),
    finds: [['VHDX_HEADERS_TWINS', 'note']],
  },
  {
    name: 'greatest possible sequence number',
    description: { header: (h) => ({ ...h, sequence: h.sequence === 5n ? 2n ** 64n - 1n : 1n }) },
    finds: [['VHDX_HEADER_SEQUENCE_EXHAUSTED', 'warning']],
  },
];

const LOG_PLACES: HostileCase[] = [
  ...(
    [
      ['log length 0 although in use', { logLength: 0 }],
      ['log length not in MiB', { logLength: MiB + 4096 }],
      ['log longer than 1 GiB', { logLength: 2 * GiB }],
      ['log inside the header section', { logOffset: 0n }],
      ['log misaligned', { logOffset: BigInt(MiB + 512) }],
      ['log behind the end of the file', { logOffset: BigInt(TiB) }],
      ['log offset 2^63', { logOffset: 2n ** 63n }],
      ['log reaches past the end of the file', { logLength: 512 * MiB }],
    ] as const
  ).map(([name, change]) => ({
    name,
    description: { ...dirty, ...header({ logGuid: LOG_GUID, ...change }) },
    ...fails('VHDX_LOG_PLACEMENT_INVALID'),
  })),
  {
    name: 'unknown log version in a log in use',
    description: header({ logGuid: LOG_GUID, logVersion: 1 }),
    ...fails('VHDX_LOG_VERSION_UNSUPPORTED', 'UNSUPPORTED'),
  },
  { name: 'log in use but empty', description: dirty, ...fails('VHDX_LOG_NO_SEQUENCE') },
  {
    name: 'log overlaps the BAT',
    description: header({ logOffset: BigInt(3 * MiB) }),
    ...fails('VHDX_REGION_OVERLAP'),
  },
];

const payloadAt = 4 * MiB;
const LOG_ENTRIES: HostileCase[] = [
  ...(
    [
      ['sequence number 0', { sequence: 0n }],
      ['tail outside the log', { tail: 2 * MiB }],
      ['tail misaligned', { tail: 100 }],
      ['tail at no entry', { tail: 8192 }],
    ] as const
  ).map(([name, change]) => ({
    name: `log entry with ${name}`,
    description: dirty,
    spoil: log([{ offset: payloadAt, page: logPage(1) }], change),
    ...fails('VHDX_LOG_NO_SEQUENCE'),
  })),
  ...(
    [
      ['a length of 0', 8, 0],
      ['a length that is odd', 8, 5000],
      ['a length beyond the log', 8, 0x7ffff000],
      ['2^32 − 1 descriptors', 24, 0xffffffff],
      ['more descriptors than fit', 24, 500],
    ] as const
  ).map(([name, at, value]) => ({
    name: `log entry with ${name}`,
    description: dirty,
    spoil: async (built: BuiltVhdx) => {
      await putLogEntry(built, 0, { sequence: 1n }, (bytes) => {
        new DataView(bytes.buffer).setUint32(at, value, true);
        sealChecksum(bytes, 4);
      });
    },
    ...fails('VHDX_LOG_NO_SEQUENCE'),
  })),
  ...(
    [
      ['the identifier', { offset: 0, page: logPage(1) }],
      ['a header', { offset: 64 * 1024, page: logPage(1) }],
      ['the log', { offset: MiB + 4096, page: logPage(1) }],
      ['everything', { offset: 192 * 1024, zeros: GiB }],
      ['a misaligned place', { offset: payloadAt + 512, page: logPage(1) }],
      ['a place at 2^52', { offset: 2 ** 52, page: logPage(1) }],
      ['zeros of misaligned length', { offset: payloadAt, zeros: 100 }],
      ['zeros of 2^52 bytes', { offset: payloadAt, zeros: 2 ** 52 }],
    ] as const
  ).map(([name, update]) => ({
    name: `log entry that changes ${name}`,
    description: dirty,
    spoil: log([update]),
    ...fails('VHDX_LOG_TARGET_INVALID'),
  })),
  {
    name: 'log entry with zeros of 2^63 bytes',
    description: dirty,
    spoil: async (built) => {
      await putLogEntry(
        built,
        0,
        { sequence: 1n, updates: [{ offset: payloadAt, zeros: 4096 }] },
        (bytes) => {
          bytes.set(u64(2n ** 63n), 72);
          sealChecksum(bytes, 4);
        },
      );
    },
    ...fails('VHDX_LOG_TARGET_INVALID'),
  },
  {
    name: 'log that claims a file of 2^63 bytes',
    description: dirty,
    spoil: log([], { lastFileOffset: 2n ** 63n }),
    ...fails('VHDX_LOG_TARGET_INVALID'),
  },
  {
    name: 'file shorter than the log knows',
    description: dirty,
    spoil: log([], { flushedFileOffset: GiB }),
    ...fails('VHDX_LOG_FILE_TRUNCATED'),
  },
  {
    name: 'two sequences with the same head number',
    description: dirty,
    spoil: async (built) => {
      await putLogEntry(built, 0, { sequence: 4n });
      await putLogEntry(built, 65536, { sequence: 4n });
    },
    ...fails('VHDX_LOG_AMBIGUOUS'),
  },
  {
    name: 'log that zeroes the BAT region table',
    description: dirty,
    spoil: log([{ offset: 192 * 1024, zeros: 128 * 1024 }]),
    ...fails('VHDX_REGION_TABLE_INVALID'),
  },
];

const REGIONS: HostileCase[] = [
  {
    name: 'both region tables damaged',
    spoil: put([(TABLES[0] ?? 0) + 40, u32(1)], [(TABLES[1] ?? 0) + 40, u32(1)]),
    ...fails('VHDX_REGION_TABLE_INVALID'),
  },
  {
    name: 'region table 1 damaged',
    spoil: put([(TABLES[0] ?? 0) + 40, u32(1)]),
    finds: [['VHDX_REGION_TABLE_COPY_DAMAGED', 'warning']],
  },
  { name: 'region count 2048', spoil: inTables(8, u32(2048)), ...fails('VHDX_REGION_TABLE_INVALID') },
  {
    name: 'region count 2^32 − 1',
    spoil: inTables(8, u32(0xffffffff)),
    ...fails('VHDX_REGION_TABLE_INVALID'),
  },
  { name: 'no regions', spoil: inTables(8, u32(0)), ...fails('VHDX_REGION_MISSING') },
  { name: 'no metadata region', spoil: inTables(8, u32(1)), ...fails('VHDX_REGION_MISSING') },
  {
    name: 'BAT listed twice',
    description: region(1, { guid: '2dc27766-f623-4200-9d64-115e9bfd4a08' }),
    ...fails('VHDX_REGION_DUPLICATE'),
  },
  {
    name: 'metadata on top of the BAT',
    description: region(1, { offset: 3 * MiB }),
    ...fails('VHDX_REGION_OVERLAP'),
  },
  {
    name: 'metadata on top of the log',
    description: region(1, { offset: MiB }),
    ...fails('VHDX_REGION_OVERLAP'),
  },
  {
    name: 'BAT misaligned',
    description: region(0, { offset: 3 * MiB + 512 }),
    ...fails('VHDX_REGION_INVALID'),
  },
  {
    name: 'BAT in the header section',
    description: region(0, { offset: 0 }),
    ...fails('VHDX_REGION_INVALID'),
  },
  { name: 'BAT outside the file', description: region(0, { offset: TiB }), ...fails('VHDX_REGION_INVALID') },
  { name: 'BAT of length 0', description: region(0, { length: 0 }), ...fails('VHDX_REGION_INVALID') },
  {
    name: 'BAT length not in MiB',
    description: region(0, { length: MiB + 1 }),
    ...fails('VHDX_REGION_INVALID'),
  },
  {
    name: 'BAT of nearly 4 GiB',
    description: region(0, { length: 0xfff00000 }),
    ...fails('VHDX_REGION_INVALID'),
  },
  {
    name: 'BAT at 2^63',
    spoil: inTables(32, u64(2n ** 63n)),
    ...fails('VHDX_REGION_INVALID'),
  },
  {
    name: 'unknown region that is required',
    description: extraRegion({ required: true }),
    ...fails('VHDX_REGION_UNKNOWN_REQUIRED', 'UNSUPPORTED'),
  },
  {
    name: 'block inside an unknown optional region',
    description: extraRegion({}),
    ...failsLocate('VHDX_BAT_ENTRY_IN_METADATA'),
  },
];

const extra = (change: Partial<NewItem>): NewItem => ({
  guid: GUID.unknown,
  bytes: u32(1),
  isVirtualDisk: false,
  isRequired: false,
  ...change,
});

const METADATA: HostileCase[] = [
  { name: 'metadata signature wrong', spoil: inMetadata(0, u32(0)), ...fails('VHDX_METADATA_TABLE_INVALID') },
  {
    name: 'metadata count 65535',
    spoil: inMetadata(10, u32(0xffff)),
    ...fails('VHDX_METADATA_TABLE_INVALID'),
  },
  {
    name: 'no metadata items',
    spoil: inMetadata(10, Buffer.alloc(2)),
    ...fails('VHDX_METADATA_ITEM_MISSING'),
  },
  ...(['parameters', 'size', 'logical', 'physical'] as const).map((which) => ({
    name: `metadata item '${which}' missing`,
    description: without(GUID[which]),
    ...fails('VHDX_METADATA_ITEM_MISSING'),
  })),
  { name: 'disk id missing', description: without(GUID.id), finds: [['VHDX_DISK_ID_MISSING', 'warning']] },
  { name: 'item inside the table', spoil: inMetadata(48, u32(100)), ...fails('VHDX_METADATA_ITEM_INVALID') },
  { name: 'item behind the region', spoil: inMetadata(48, u32(MiB)), ...fails('VHDX_METADATA_ITEM_INVALID') },
  {
    name: 'item offset 2^32 − 1',
    spoil: inMetadata(48, u32(0xffffffff)),
    ...fails('VHDX_METADATA_ITEM_INVALID'),
  },
  {
    name: 'item length 2^32 − 1',
    spoil: inMetadata(52, u32(0xffffffff)),
    ...fails('VHDX_METADATA_ITEM_INVALID'),
  },
  { name: 'item too short', spoil: inMetadata(52, u32(7)), ...fails('VHDX_METADATA_ITEM_INVALID') },
  { name: 'items overlap', spoil: inMetadata(80, u32(65540)), ...fails('VHDX_METADATA_ITEM_INVALID') },
  {
    name: 'item listed twice',
    description: plus(extra({ guid: GUID.size, bytes: u64(MiB) })),
    ...fails('VHDX_METADATA_ITEM_DUPLICATE'),
  },
  {
    name: 'unknown item that is required',
    description: plus(extra({ isRequired: true })),
    ...fails('VHDX_METADATA_UNKNOWN_REQUIRED', 'UNSUPPORTED'),
  },
  {
    name: 'known GUID as a required user item',
    description: plus(extra({ guid: GUID.id, isUser: true, isRequired: true })),
    ...fails('VHDX_METADATA_UNKNOWN_REQUIRED', 'UNSUPPORTED'),
  },
  {
    name: 'incomplete-file marker',
    description: plus(
      extra({ guid: '71cc85f0-1b69-4e28-9558-c3bf83ae75d3', bytes: new Uint8Array(0), isRequired: true }),
    ),
    ...fails('VHDX_INCOMPLETE_FILE', 'UNSUPPORTED'),
  },
  {
    name: 'reserved flags of an item',
    spoil: inMetadata(56, u32(0x80000004)),
    finds: [['VHDX_METADATA_RESERVED_BITS', 'warning']],
  },
  ...[0, 1, 4096, 512 * 1024, 3 * MiB, 512 * MiB, 0xffffffff].map((size) => ({
    name: `block size ${size}`,
    description: item(GUID.parameters, Buffer.concat([u32(size), u32(0)])),
    ...fails('VHDX_BLOCK_SIZE_INVALID'),
  })),
  ...[0, 1, 513, 2048, 0xffffffff].flatMap((size) =>
    (['logical', 'physical'] as const).map((which) => ({
      name: `${which} sector size ${size}`,
      description: item(GUID[which], u32(size)),
      ...fails('VHDX_SECTOR_SIZE_INVALID'),
    })),
  ),
  ...[0n, 513n, BigInt(64 * TiB) + 512n, 2n ** 63n, 2n ** 64n - 512n].map((size) => ({
    name: `virtual size ${size}`,
    description: item(GUID.size, u64(size)),
    ...fails('VHDX_DISK_SIZE_INVALID'),
  })),
  {
    name: 'BAT too small for the disk',
    description: item(GUID.size, u64(TiB)),
    ...fails('VHDX_BAT_TOO_SMALL'),
  },
];

const PARENTS: HostileCase[] = [
  {
    name: 'differencing image without a locator',
    description: { parent: PARENT, ...without(GUID.locator) },
    ...fails('VHDX_METADATA_ITEM_MISSING'),
  },
  {
    name: 'locator without has-parent',
    description: plus(extra({ guid: GUID.locator, isRequired: true })),
    finds: [['VHDX_PARENT_LOCATOR_UNEXPECTED', 'warning']],
  },
  ...(
    [
      ['too short', 0, u32(0), 4],
      ['65535 pairs', 18, Buffer.from([0xff, 0xff]), 0],
      ['more pairs than fit', 18, Buffer.from([200, 0]), 0],
      ['a key outside', 20, u32(0xffffff00), 0],
      ['a value inside the header', 24, u32(1), 0],
      ['a key of odd length', 28, Buffer.from([3, 0]), 0],
      ['an empty key', 28, Buffer.from([0, 0]), 0],
      ['no linkage', 18, Buffer.from([0, 0]), 0],
    ] as const
  ).map(([name, at, bytes, cut]) => ({
    name: `parent locator with ${name}`,
    description: {
      parent: PARENT,
      items: (items: NewItem[]) =>
        items.map((one) => {
          if (one.guid !== GUID.locator) return one;
          const copy = Uint8Array.from(one.bytes);
          copy.set(bytes, at);
          return { ...one, bytes: cut > 0 ? copy.slice(0, cut) : copy };
        }),
    },
    ...fails('VHDX_PARENT_LOCATOR_INVALID'),
  })),
  {
    name: 'parent locator of an unknown type',
    description: { parent: PARENT, ...item(GUID.locator, new Uint8Array(64)) },
    ...fails('VHDX_PARENT_LOCATOR_TYPE_UNKNOWN', 'UNSUPPORTED'),
  },
];

const BLOCKS: HostileCase[] = [
  ...(
    [
      ['at 0', 0],
      ['just behind the file', 6],
      ['at 2^44 − 1 MiB', 2n ** 44n - 1n],
      ['at 2^53 bytes', 2n ** 33n],
    ] as const
  ).map(([name, at]) => ({
    name: `block ${name}`,
    spoil: entry(0, 6, at),
    ...failsLocate('VHDX_BAT_ENTRY_OUTSIDE_FILE'),
    finds: [['VHDX_BAT_ENTRY_OUTSIDE_FILE', 'error'] as const],
  })),
  ...(
    [
      ['the log', 1],
      ['the metadata', 2],
      ['the BAT', 3],
    ] as const
  ).map(([name, at]) => ({
    name: `block inside ${name}`,
    spoil: entry(0, 6, at),
    ...failsLocate('VHDX_BAT_ENTRY_IN_METADATA'),
    finds: [['VHDX_BAT_ENTRY_IN_METADATA', 'error'] as const],
  })),
  {
    name: 'file cut where its blocks begin',
    spoil: truncate((built) => built.places.payload.get(0) ?? 0),
    ...failsLocate('VHDX_BAT_ENTRY_OUTSIDE_FILE'),
    finds: [['VHDX_BAT_ENTRY_OUTSIDE_FILE', 'error']],
  },
  {
    name: 'two blocks at one place',
    spoil: entry(1, 6, 4),
    finds: [['VHDX_BAT_ENTRY_OVERLAP', 'error']],
  },
  {
    name: 'block in state 4',
    spoil: entry(0, 4, 4),
    ...failsLocate('VHDX_BAT_STATE_INVALID'),
    finds: [['VHDX_BAT_STATE_INVALID', 'error']],
  },
  {
    name: 'partially present block without a parent',
    spoil: entry(0, 7, 4),
    ...failsLocate('VHDX_BAT_STATE_INVALID'),
    finds: [['VHDX_BAT_STATE_INVALID', 'error']],
  },
  {
    name: 'block in the draft state 5',
    spoil: entry(1, 5, 0),
    finds: [['VHDX_BAT_STATE_LEGACY', 'warning']],
  },
  {
    name: 'zero block with an offset',
    spoil: entry(1, 2, 9),
    finds: [['VHDX_BAT_OFFSET_UNEXPECTED', 'warning']],
  },
  {
    name: 'unmapped block anchored outside the file',
    spoil: entry(1, 3, 900),
    finds: [['VHDX_BAT_ENTRY_OUTSIDE_FILE', 'warning']],
  },
  {
    name: 'reserved bits of an entry',
    spoil: async ({ file, places }) => file.write(u32(6 | 0x80000 | (4 << 20)), places.entryOf(0)),
    finds: [['VHDX_BAT_RESERVED_BITS', 'warning']],
  },
  {
    name: 'entry behind the last block',
    spoil: async ({ file, places }) => file.write(batEntry(6, 4), places.bat + MiB - 8),
    finds: [['VHDX_BAT_SPARE_ENTRY_USED', 'note']],
  },
  {
    name: 'fixed image with missing blocks',
    description: { fixed: true },
    finds: [['VHDX_FIXED_NOT_ALLOCATED', 'note']],
  },
  {
    name: 'space that nothing uses',
    spoil: truncate(7 * MiB),
    finds: [['VHDX_UNUSED_SPACE', 'leak']],
  },
  {
    name: 'sector bitmap in an image without a parent',
    description: { virtualSize: 5 * GiB },
    spoil: bitmapEntry(6, 4),
    finds: [['VHDX_BITMAP_UNEXPECTED', 'warning']],
  },
  ...(
    [
      ['missing', 0, 0, 'VHDX_BITMAP_MISSING', 'VHDX_BITMAP_MISSING'],
      ['in state 7', 7, 5, 'VHDX_BITMAP_MISSING', 'VHDX_BAT_STATE_INVALID'],
      ['outside the file', 6, 900, 'VHDX_BAT_ENTRY_OUTSIDE_FILE', 'VHDX_BAT_ENTRY_OUTSIDE_FILE'],
      ['inside the log', 6, 1, 'VHDX_BAT_ENTRY_IN_METADATA', 'VHDX_BAT_ENTRY_IN_METADATA'],
      ['in the headers', 6, 0, 'VHDX_BAT_ENTRY_OUTSIDE_FILE', 'VHDX_BAT_ENTRY_OUTSIDE_FILE'],
    ] as const
  ).map(([name, state, at, defect, found]) => ({
    name: `sector bitmap ${name}`,
    description: { parent: PARENT },
    spoil: bitmapEntry(state, at),
    ...failsLocate(defect),
    finds: [[found, 'error'] as const],
  })),
];

export const HOSTILE_CASES: readonly HostileCase[] = [
  ...FILE_AND_HEADERS,
  ...LOG_PLACES,
  ...LOG_ENTRIES,
  ...REGIONS,
  ...METADATA,
  ...PARENTS,
  ...BLOCKS,
];

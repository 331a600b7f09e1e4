/**
 * Broken identifiers, headers, region tables, metadata and parent locators, and what each must lead to.
 */
import { MiB, TiB } from '../../../../src/base/bytes.js';
import type { NewItem } from '../../../../src/formats/vhdx/metadata-table.js';
import { u32, u64 } from '../../../support/vhdx-builder.js';

import {
  extra,
  extraRegion,
  fails,
  failsLocate,
  GUID,
  HEADERS,
  type HostileCase,
  header,
  inMetadata,
  inTables,
  item,
  PARENT,
  plus,
  put,
  region,
  TABLES,
  truncate,
  without,
} from './hostile-kit.js';

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

export const STRUCTURE_CASES: readonly HostileCase[] = [
  ...FILE_AND_HEADERS,
  ...REGIONS,
  ...METADATA,
  ...PARENTS,
];

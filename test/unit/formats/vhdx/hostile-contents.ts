/**
 * Broken logs and block tables, and what each must lead to.
 */
import { GiB, MiB, TiB } from '../../../../src/base/bytes.js';
import { sealChecksum } from '../../../../src/formats/vhdx/binary.js';
import {
  type BuiltVhdx,
  batEntry,
  LOG_GUID,
  logPage,
  putLogEntry,
  u32,
  u64,
} from '../../../support/vhdx-builder.js';

import {
  bitmapEntry,
  dirty,
  entry,
  fails,
  failsLocate,
  type HostileCase,
  header,
  log,
  PARENT,
  truncate,
} from './hostile-kit.js';

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

export const CONTENT_CASES: readonly HostileCase[] = [...LOG_PLACES, ...LOG_ENTRIES, ...BLOCKS];

/**
 * What the tables of broken images are made of: the shape of a case, and ways to break an image.
 */
import { MiB } from '../../../../src/base/bytes.js';
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
  putLogEntry,
  u32,
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

export const GUID = {
  parameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  size: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  id: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  logical: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physical: 'cda348c7-445d-4471-9cc9-e9885251c556',
  locator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
  unknown: '01234567-89ab-4cde-8f01-23456789abcd',
};
export const HEADERS = [64 * 1024, 128 * 1024];
export const TABLES = [192 * 1024, 256 * 1024];
export const PARENT = { linkage: 'ab12cabe-e6b2-2345-93ef-c309e000c746' };

export type Spoil = (built: BuiltVhdx) => Promise<void>;

/** Overwrites bytes at absolute offsets. */
export function put(...patches: [number, Uint8Array][]): Spoil {
  return async ({ file }) => {
    for (const [offset, bytes] of patches) await file.write(bytes, offset);
  };
}

export const entry =
  (block: number, state: number, offsetMiB: number | bigint): Spoil =>
  async ({ file, places }) =>
    file.write(batEntry(state, offsetMiB), places.entryOf(block));

export const bitmapEntry =
  (state: number, offsetMiB: number | bigint): Spoil =>
  async ({ file, places }) =>
    file.write(batEntry(state, offsetMiB), places.bitmapEntryOf(0));

export const inMetadata =
  (offset: number, bytes: Uint8Array): Spoil =>
  async ({ file, places }) =>
    file.write(bytes, places.metadata + offset);

export const truncate =
  (size: number | ((built: BuiltVhdx) => number)): Spoil =>
  async (built) =>
    built.file.truncate(typeof size === 'number' ? size : size(built));

/** Changes both region tables and makes their checksums right again. */
export const inTables =
  (offset: number, bytes: Uint8Array): Spoil =>
  async ({ file }) => {
    for (const start of TABLES) {
      const table = new Uint8Array(65536);
      await file.read(table, start);
      table.set(bytes, offset);
      await file.write(sealChecksum(table, 4), start);
    }
  };

export const log =
  (updates: Parameters<typeof putLogEntry>[2]['updates'], more = {}): Spoil =>
  async (built) => {
    await putLogEntry(built, 0, { sequence: 1n, ...(updates ? { updates } : {}), ...more });
  };

export const header = (change: Partial<VhdxHeader>) => ({ header: (h: VhdxHeader) => ({ ...h, ...change }) });
export const item = (guid: string, bytes: Uint8Array) => ({
  items: (items: NewItem[]) => items.map((one) => (one.guid === guid ? { ...one, bytes } : one)),
});
export const without = (guid: string) => ({
  items: (items: NewItem[]) => items.filter((one) => one.guid !== guid),
});
export const plus = (extra: NewItem) => ({ items: (items: NewItem[]) => [...items, extra] });
export const region = (index: number, change: Partial<RegionEntry>) => ({
  regions: (regions: RegionEntry[]) => regions.map((one, i) => (i === index ? { ...one, ...change } : one)),
});
export const extraRegion = (change: Partial<RegionEntry>) => ({
  regions: (regions: RegionEntry[]) => [
    ...regions,
    { guid: GUID.unknown, offset: 4 * MiB, length: MiB, required: false, ...change },
  ],
});
export const dirty = { logGuid: LOG_GUID };
export const fails = (defect: VhdxDefect, code: ErrorCode = 'IMAGE_CORRUPT') => ({ fails: { defect, code } });
export const failsLocate = (defect: VhdxDefect) => ({ fails: { at: 'locate' as const, defect } });

export const extra = (change: Partial<NewItem>): NewItem => ({
  guid: GUID.unknown,
  bytes: u32(1),
  isVirtualDisk: false,
  isRequired: false,
  ...change,
});

/**
 * The master boot record and the extended boot records that share its layout. Pure.
 *
 * Invariant: encoding changes the sixteen-byte entries that it is told to change and nothing else: boot
 * code, disk signature and everything unknown stay as they are.
 *
 * An MBR and the boot sector of a file system both end in 55 AA; `isPlausibleTable` tells them apart by
 * what a table can hold, never by the signature alone.
 */

export const MBR_BYTES = 512;
const SIGNATURE_AT = 510;
const TABLE_AT = 446;
const ENTRY_BYTES = 16;
const ENTRIES = 4;
const BOOT_CODE_BYTES = 440;

export const MBR_TYPE = { empty: 0x00, protective: 0xee } as const;
const EXTENDED_TYPES: ReadonlySet<number> = new Set([0x05, 0x0f, 0x85]);

/** A used entry. `first` and `count` are in sectors; what `first` counts from depends on the record. */
export interface MbrEntry {
  /** 0 to 3. */
  slot: number;
  status: number;
  type: number;
  first: number;
  count: number;
}

export function isExtended(type: number): boolean {
  return EXTENDED_TYPES.has(type);
}

/**
 * The used entries of a boot record of 512 bytes or more; undefined when it has no signature.
 * Source: UEFI specification 2.10, 5.2.1 "Legacy Master Boot Record".
 */
export function decodeMbr(sector: Uint8Array): MbrEntry[] | undefined {
  if (sector.length < MBR_BYTES) return undefined;
  if (sector[SIGNATURE_AT] !== 0x55 || sector[SIGNATURE_AT + 1] !== 0xaa) return undefined;
  const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength);
  const entries: MbrEntry[] = [];
  for (let slot = 0; slot < ENTRIES; slot += 1) {
    const at = TABLE_AT + slot * ENTRY_BYTES;
    const type = view.getUint8(at + 4);
    if (type === MBR_TYPE.empty) continue;
    const status = view.getUint8(at);
    entries.push({
      slot,
      status,
      type,
      first: view.getUint32(at + 8, true),
      count: view.getUint32(at + 12, true),
    });
  }
  return entries;
}

/** Could these entries be a partition table of a disk with so many sectors? */
export function isPlausibleTable(entries: readonly MbrEntry[], diskSectors: number): boolean {
  const spans = [...entries].sort((a, b) => a.first - b.first);
  return (
    spans.length > 0 &&
    spans.every(({ status, first, count }, index) => {
      const before = spans[index - 1];
      const apart = !before || before.first + before.count <= first;
      return (status === 0x00 || status === 0x80) && first > 0 && count > 0 && first < diskSectors && apart;
    })
  );
}

/** True when there is boot code, which may address sectors by number. */
export function hasBootCode(sector: Uint8Array): boolean {
  return sector.subarray(0, BOOT_CODE_BYTES).some((byte) => byte !== 0);
}

/**
 * Cylinder, head and sector as written where only LBAs count: 255 heads of 63 sectors, and the last
 * address (1023, 254, 63) for everything behind it.
 */
function chsOf(lba: number): [number, number, number] {
  const cylinder = Math.floor(lba / (255 * 63));
  if (cylinder > 1023) return [0xfe, 0xff, 0xff];
  const head = Math.floor(lba / 63) % 255;
  return [head, ((lba % 63) + 1) | ((cylinder >> 8) << 6), cylinder & 0xff];
}

/**
 * A copy of the record with new places in some slots.
 * @param base added to `first` for the cylinder fields, which are absolute in every record
 */
export function moveMbrEntries(
  sector: Uint8Array,
  moved: Iterable<{ slot: number; first: number; count: number; base?: number }>,
): Uint8Array {
  const out = Uint8Array.from(sector.subarray(0, MBR_BYTES));
  const view = new DataView(out.buffer);
  for (const { slot, first, count, base = 0 } of moved) {
    const at = TABLE_AT + slot * ENTRY_BYTES;
    out.set(chsOf(base + first), at + 1);
    out.set(chsOf(base + first + count - 1), at + 5);
    view.setUint32(at + 8, first, true);
    view.setUint32(at + 12, count, true);
  }
  return out;
}

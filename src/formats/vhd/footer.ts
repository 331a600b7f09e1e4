/**
 * The hard disk footer: 512 bytes at the end of every VHD, with a copy at offset 0 of dynamic and
 * differencing ones.
 *
 * Invariant: decoding never judges and never throws on 512 bytes; `judgeFooter` says what is wrong with
 * the values. The checksum is verified over the raw bytes, because writers keep data in reserved fields.
 *
 * Deliberately not here: where the footer is and which copy to trust (footer-search.ts).
 */
import { TiB } from '../../base/bytes.js';
import { sealChecksum, storedChecksum, vhdChecksum } from './checksum.js';
import type { VhdDefect } from './defects.js';
import type { Geometry } from './geometry.js';

export const FOOTER_BYTES = 512;
export const FOOTER_COOKIE = 'conectix';
/** blktap overwrites the cookie with this to disable an image. */
export const POISON_COOKIE = 'v_poison';
/** Data offset of fixed disks, and the unused data offset of dynamic headers. */
export const NO_OFFSET = 0xffff_ffff_ffff_ffffn;
/** Where new dynamic disks have their header: right behind the copy of the footer. */
export const HEADER_AFTER_FOOTER = FOOTER_BYTES;
export const DISK_TYPE = { none: 0, fixed: 2, dynamic: 3, differencing: 4 } as const;
/** Larger sizes are refused: no VHD of that size can exist, and 2^46 leaves room for safe arithmetic. */
export const MAX_VIRTUAL_SIZE = 64 * TiB;
/** What Windows and XenServer accept of a dynamic or differencing disk: 2040 GiB. */
export const MAX_DYNAMIC_SIZE = 0xff00_0000 * 512;

const CHECKSUM_AT = 64;
/** blktap's "hidden" flag, in a reserved byte. */
const HIDDEN_AT = 85;
/** Byte offsets of fields within the footer, for findings that point at one. */
export const FOOTER_FIELD = {
  features: 8,
  version: 12,
  dataOffset: 16,
  creator: 28,
  originalSize: 40,
  currentSize: 48,
  geometry: 56,
  diskType: 60,
  checksum: CHECKSUM_AT,
  uniqueId: 68,
  savedState: 84,
} as const;

/** Source: VHD specification 1.0, "Hard Disk Footer Format". Sizes in bytes. */
export interface VhdFooter {
  features: number;
  version: number;
  dataOffset: bigint;
  /** Seconds since 2000-01-01 00:00 UTC. */
  timestamp: number;
  /** Four characters, NUL included. */
  creatorApplication: string;
  creatorVersion: number;
  creatorHost: number;
  originalSize: bigint;
  currentSize: bigint;
  geometry: Geometry;
  diskType: number;
  uniqueId: Uint8Array;
  savedState: number;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The eight characters at the beginning of a structure. */
export function cookieOf(bytes: Uint8Array, at = 0): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, 8).toString('latin1');
}

/** Decodes 512 bytes; any bytes give a result. */
export function decodeFooter(bytes: Uint8Array): VhdFooter {
  const view = viewOf(bytes);
  return {
    features: view.getUint32(8),
    version: view.getUint32(12),
    dataOffset: view.getBigUint64(16),
    timestamp: view.getUint32(24),
    creatorApplication: Buffer.from(bytes.subarray(28, 32)).toString('latin1'),
    creatorVersion: view.getUint32(32),
    creatorHost: view.getUint32(36),
    originalSize: view.getBigUint64(40),
    currentSize: view.getBigUint64(48),
    geometry: {
      cylinders: view.getUint16(56),
      heads: view.getUint8(58),
      sectorsPerTrack: view.getUint8(59),
    },
    diskType: view.getUint32(60),
    uniqueId: bytes.slice(68, 84),
    savedState: view.getUint8(84),
  };
}

/** Encodes a new footer, reserved bytes zero, checksum right. */
export function encodeFooter(footer: VhdFooter): Uint8Array {
  const bytes = new Uint8Array(FOOTER_BYTES);
  const view = viewOf(bytes);
  bytes.set(Buffer.from(FOOTER_COOKIE, 'latin1'), 0);
  view.setUint32(8, footer.features);
  view.setUint32(12, footer.version);
  view.setBigUint64(16, footer.dataOffset);
  view.setUint32(24, footer.timestamp);
  bytes.set(Buffer.from(footer.creatorApplication, 'latin1').subarray(0, 4), 28);
  view.setUint32(32, footer.creatorVersion);
  view.setUint32(36, footer.creatorHost);
  view.setBigUint64(40, footer.originalSize);
  view.setBigUint64(48, footer.currentSize);
  view.setUint16(56, footer.geometry.cylinders);
  view.setUint8(58, footer.geometry.heads);
  view.setUint8(59, footer.geometry.sectorsPerTrack);
  view.setUint32(60, footer.diskType);
  bytes.set(footer.uniqueId, 68);
  view.setUint8(84, footer.savedState);
  sealChecksum(bytes, CHECKSUM_AT);
  return bytes;
}

/**
 * True when the footer's checksum is right, also for images that blktap's early versions hid without
 * computing it again (byte 85 counted as zero).
 */
export function footerChecksumOk(bytes: Uint8Array): boolean {
  const stored = storedChecksum(bytes, CHECKSUM_AT);
  if (vhdChecksum(bytes, CHECKSUM_AT) === stored) return true;
  const shown = Uint8Array.from(bytes);
  shown[HIDDEN_AT] = 0;
  return vhdChecksum(shown, CHECKSUM_AT) === stored;
}

/** What makes a footer unusable. `field` is its byte offset within the footer. */
export interface FooterProblem {
  code: 'IMAGE_CORRUPT' | 'UNSUPPORTED';
  defect: VhdDefect;
  message: string;
  field: number;
}

function judgeType(diskType: number): FooterProblem | undefined {
  if (diskType === 2 || diskType === 3 || diskType === 4) return undefined;
  const reserved = diskType <= 6;
  return {
    code: reserved ? 'UNSUPPORTED' : 'IMAGE_CORRUPT',
    defect: reserved ? 'VHD_TYPE_UNSUPPORTED' : 'VHD_TYPE_INVALID',
    message: reserved
      ? `VHD disk type ${diskType} is reserved or deprecated; only fixed (2), dynamic (3) and differencing (4) exist in practice`
      : `${diskType} is not a VHD disk type`,
    field: FOOTER_FIELD.diskType,
  };
}

/** Checks version, type and size; undefined when the footer can be used. */
export function judgeFooter(footer: VhdFooter): FooterProblem | undefined {
  if (footer.version >>> 16 !== 1) {
    const version = `0x${footer.version.toString(16).padStart(8, '0')}`;
    return {
      code: 'UNSUPPORTED',
      defect: 'VHD_FOOTER_VERSION',
      message: `VHD file format version ${version} is not supported (only 0x00010000)`,
      field: FOOTER_FIELD.version,
    };
  }
  const type = judgeType(footer.diskType);
  if (type) return type;
  if (footer.currentSize === 0n || footer.currentSize > BigInt(MAX_VIRTUAL_SIZE)) {
    return {
      code: 'IMAGE_CORRUPT',
      defect: 'VHD_SIZE_INVALID',
      message: `the footer gives a disk size of ${footer.currentSize} bytes`,
      field: FOOTER_FIELD.currentSize,
    };
  }
  return undefined;
}

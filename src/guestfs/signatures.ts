/**
 * What a volume holds when it is nothing whose free space we can read: encryption, volume managers, RAID
 * members, other file systems. By signature, so that a report can say why the volume stays.
 *
 * Invariant: a match only ever makes a volume stay. A signature here is at least three bytes long (most are
 * eight or more) because it also overrules a file system found on the same volume: a mirror's member looks
 * like the file system inside, and an encrypted volume may show a decoy.
 *
 * Deliberately not here: NTFS, FAT, exFAT, ext, XFS, btrfs and swap, which have readers.
 */
import { KiB, MiB } from '../base/bytes.js';
import type { ByteRange } from '../io/random-access-file.js';
import type { ReadBytes } from './partition-table.js';

interface Signature {
  kind: string;
  /** Byte offset in the volume; for `end`, counted as the function says from the volume's length. */
  at: number | ((length: number) => number);
  bytes: Uint8Array;
}

function text(value: string): Uint8Array {
  return Uint8Array.from(Buffer.from(value, 'latin1'));
}

function hex(value: string): Uint8Array {
  return Uint8Array.from(Buffer.from(value.replaceAll(' ', ''), 'hex'));
}

const SECTOR = 512;
const MD_MAGIC = hex('fc4e2ba9');
const MD_MAGIC_BIG_ENDIAN = hex('a92b4efc');
/** md metadata 0.90: in the last whole 64 KiB but one. */
const md090 = (length: number): number => Math.floor(length / (64 * KiB)) * 64 * KiB - 64 * KiB;
/** md metadata 1.0: 8 KiB before the end, in whole 4 KiB. */
const md10 = (length: number): number => Math.floor((length - 8 * KiB) / (4 * KiB)) * 4 * KiB;
const lastPage = (length: number): number => Math.floor(length / (4 * KiB)) * 4 * KiB - 4 * KiB;
const sectorFromEnd =
  (count: number) =>
  (length: number): number =>
    (Math.floor(length / SECTOR) - count) * SECTOR;

const SIGNATURES: readonly Signature[] = [
  { kind: 'LUKS', at: 0, bytes: text('LUKS\xba\xbe') },
  ...[16, 32, 64, 128, 256, 512, 1024, 2048, 4096].map((kib) => ({
    kind: 'LUKS',
    at: kib * KiB,
    bytes: text('SKUL\xba\xbe'),
  })),
  { kind: 'BitLocker', at: 3, bytes: text('-FVE-FS-') },
  // BitLocker To Go: a FAT file system in front that only tells how to unlock.
  { kind: 'BitLocker', at: 424, bytes: hex('3bd66749 292ed84a 8399f6a3 39e3d001') },
  ...[0, 1, 2, 3].map((sector) => ({ kind: 'LVM', at: sector * SECTOR, bytes: text('LABELONE') })),
  { kind: 'LVM', at: 4 * KiB, bytes: text('LABELONE') },
  { kind: 'Linux RAID', at: 0, bytes: MD_MAGIC },
  { kind: 'Linux RAID', at: 4 * KiB, bytes: MD_MAGIC },
  { kind: 'Linux RAID', at: md10, bytes: MD_MAGIC },
  { kind: 'Linux RAID', at: md090, bytes: MD_MAGIC },
  { kind: 'Linux RAID', at: md090, bytes: MD_MAGIC_BIG_ENDIAN },
  { kind: 'Intel RAID', at: sectorFromEnd(2), bytes: text('Intel Raid ISM Cfg Sig.') },
  { kind: 'DDF RAID', at: sectorFromEnd(1), bytes: hex('de11de11') },
  { kind: 'DRBD', at: (length) => lastPage(length) + 60, bytes: hex('8374026b') },
  { kind: 'DRBD', at: (length) => lastPage(length) + 60, bytes: hex('8374026d') },
  { kind: 'bcache', at: 4 * KiB + 24, bytes: hex('c68573f6 4e1a45ca 8265f57f 48ba6d81') },
  { kind: 'bcachefs', at: 4 * KiB + 24, bytes: hex('c68573f6 66ce90a9 d96a60cf 803df7ef') },
  { kind: 'VDO', at: 0, bytes: text('dmvdo001') },
  { kind: 'dm-integrity', at: 0, bytes: text('integrt\0') },
  { kind: 'dm-verity', at: 0, bytes: text('verity\0\0') },
  { kind: 'Stratis', at: SECTOR + 4, bytes: text('!Stra0tis\x86\xff\x02^\x41rh') },
  { kind: 'Ceph BlueStore', at: 0, bytes: text('bluestore block device') },
  { kind: 'Oracle ASM', at: 32, bytes: text('ORCLDISK') },
  { kind: 'VMFS', at: MiB, bytes: hex('0dd001c0') },
  { kind: 'Windows dynamic disk', at: 6 * SECTOR, bytes: text('PRIVHEAD') },
  { kind: 'ReFS', at: 3, bytes: text('ReFS\0\0\0\0') },
  { kind: 'APFS', at: 32, bytes: text('NXSB') },
  { kind: 'F2FS', at: KiB, bytes: hex('1020f5f2') },
  { kind: 'EROFS', at: KiB, bytes: hex('e2e1f5e0') },
  { kind: 'squashfs', at: 0, bytes: text('hsqs') },
  { kind: 'JFS', at: 32 * KiB, bytes: text('JFS1') },
  { kind: 'ReiserFS', at: 64 * KiB + 52, bytes: text('ReIsEr') },
  { kind: 'GFS2', at: 64 * KiB, bytes: hex('01161970') },
  { kind: 'UFS', at: 8 * KiB + 1372, bytes: hex('54190100') },
  { kind: 'UFS', at: 64 * KiB + 1372, bytes: hex('19015419') },
  { kind: 'ISO 9660', at: 32 * KiB + 1, bytes: text('CD001') },
];

/** HFS and HFS+ have two bytes only: they name a volume that nothing else claims. */
const WEAK_SIGNATURES: readonly Signature[] = [
  { kind: 'HFS+', at: KiB, bytes: text('H+') },
  { kind: 'HFS+', at: KiB, bytes: text('HX') },
  { kind: 'HFS', at: KiB, bytes: text('BD') },
];

/** A ZFS label keeps uberblocks, at least 1 KiB apart, in the second half of its first 256 KiB. */
const ZFS = { at: 128 * KiB, length: 128 * KiB, step: KiB };
const ZFS_MAGIC = [hex('0cb1ba00 00000000'), hex('00000000 00bab10c')];

function startsWith(bytes: Uint8Array, at: number, magic: Uint8Array): boolean {
  return magic.every((byte, index) => bytes[at + index] === byte);
}

async function hasSignature(
  read: ReadBytes,
  { offset, length }: ByteRange,
  { at, bytes }: Signature,
): Promise<boolean> {
  const place = typeof at === 'number' ? at : at(length);
  if (place < 0 || place + bytes.length > length) return false;
  return startsWith(await read(offset + place, bytes.length), 0, bytes);
}

async function hasZfsLabel(read: ReadBytes, { offset, length }: ByteRange): Promise<boolean> {
  if (length < ZFS.at + ZFS.length) return false;
  const ring = await read(offset + ZFS.at, ZFS.length);
  for (let at = 0; at < ring.length; at += ZFS.step)
    if (ZFS_MAGIC.some((magic) => startsWith(ring, at, magic))) return true;
  return false;
}

/** What is known to be on the volume and to be opaque; undefined when nothing is recognised. */
export async function opaqueKind(read: ReadBytes, range: ByteRange): Promise<string | undefined> {
  for (const signature of SIGNATURES) if (await hasSignature(read, range, signature)) return signature.kind;
  return (await hasZfsLabel(read, range)) ? 'ZFS' : undefined;
}

/** A name for a volume that no reader and no strong signature claims. */
export async function weakKind(read: ReadBytes, range: ByteRange): Promise<string | undefined> {
  for (const signature of WEAK_SIGNATURES) {
    if (await hasSignature(read, range, signature)) return signature.kind;
  }
  return undefined;
}

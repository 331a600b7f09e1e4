/**
 * The master file table: opening it through record 0, and records by number.
 *
 * Invariants: the table is read through all of its own runs, however fragmented; the first records equal
 * their copies in $MFTMirr; every record handed out was verified.
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { viewOf } from '../volume-bytes.js';
import type { NtfsBoot } from './boot.js';
import { ATTRIBUTE, decodeRecord, type FileRecord } from './record.js';
import { overlap, type Run, readThroughRuns } from './runs.js';
import { type NtfsVolume, openStream, type Stream } from './stream.js';

/** Numbers of the system files. */
export const FILE = { mft: 0, mirror: 1, log: 2, volume: 3, root: 5, bitmap: 6 } as const;
/** $MFTMirr repeats at least these records. */
const MIRRORED = 4;
/** Records 0 to 15 are reserved for the system. */
const SYSTEM_RECORDS = 16;

export interface Mft extends NtfsVolume {
  recordBytes: number;
  /** Records there are. */
  records: number;
  stream: Stream;
  /** A bit per record: in use. */
  inUse: Stream;
}

/** The unnamed content of a system file that has its clusters. @throws IMAGE_CORRUPT (inconsistent) */
export async function systemStream(
  volume: NtfsVolume,
  number: number,
  name: string,
  type: number = ATTRIBUTE.data,
): Promise<Stream> {
  const record = await volume.record(number);
  if (!record.inUse || record.base !== 0) throw inconsistent(`${name} is not in use`);
  return checked(await openStream(volume, record, type), name);
}

function checked(stream: Stream | undefined, name: string): Stream {
  if (!stream || stream.runs.length === 0) throw inconsistent(`${name} has no clusters`);
  if (stream.runs.some(({ lcn }) => lcn === undefined)) throw inconsistent(`${name} has holes`);
  if (overlap(stream.runs)) throw inconsistent(`${name} has clusters twice`);
  return stream;
}

/** Opens the table. `read` takes offsets from the volume's start. @throws IMAGE_CORRUPT (inconsistent) */
export async function openMft(read: ReadBytes, boot: NtfsBoot): Promise<Mft> {
  const { clusterBytes, clusters, recordBytes, mftLcn } = boot;
  const first = decodeRecord(await read(mftLcn * clusterBytes, recordBytes), FILE.mft);
  if (!first.inUse || first.base !== 0) throw inconsistent('$MFT is not in use');
  const runs: Run[] = [];
  const readTable = readThroughRuns(read, runs, clusterBytes);
  const record = async (number: number): Promise<FileRecord> =>
    number === FILE.mft ? first : decodeRecord(await readTable(number * recordBytes, recordBytes), number);
  const volume: NtfsVolume = { read, clusterBytes, clusters, record };
  const stream = checked(await openStream(volume, first, ATTRIBUTE.data, runs), '$MFT');
  if (runs[0]?.lcn !== mftLcn) throw inconsistent('its boot sector and $MFT disagree about where $MFT is');
  const records = Math.floor(stream.initialised / recordBytes);
  if (records < SYSTEM_RECORDS) throw inconsistent('$MFT is too short');
  const inUse = await openStream(volume, first, ATTRIBUTE.bitmap);
  if (!inUse || inUse.size * 8 < records) throw inconsistent("$MFT's own bitmap is too short");
  return { ...volume, recordBytes, records, stream, inUse };
}

/** Without the update sequence, which each copy has for itself. */
function content({ bytes }: FileRecord): Uint8Array {
  const view = viewOf(bytes);
  const copy = Uint8Array.from(bytes);
  const array = view.getUint16(4, true);
  return copy.fill(0, array, array + view.getUint16(6, true) * 2);
}

/** Compares the first records with $MFTMirr. @throws IMAGE_CORRUPT (inconsistent) */
export async function checkMirror(mft: Mft, boot: NtfsBoot): Promise<Stream> {
  const mirror = await systemStream(mft, FILE.mirror, '$MFTMirr');
  if (mirror.runs[0]?.lcn !== boot.mirrorLcn)
    throw inconsistent('its boot sector and $MFT disagree about where $MFTMirr is');
  if (mirror.size < MIRRORED * mft.recordBytes) throw inconsistent('$MFTMirr is too short');
  for (let number = 0; number < MIRRORED; number += 1) {
    const copy = decodeRecord(await mirror.read(number * mft.recordBytes, mft.recordBytes), number);
    if (Buffer.compare(content(copy), content(await mft.record(number))) !== 0)
      throw inconsistent(`file record ${number} differs from its copy in $MFTMirr`);
  }
  return mirror;
}

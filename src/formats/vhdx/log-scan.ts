/**
 * Finding the active sequence of a log (MS-VHDX 2.3.2).
 *
 * Invariant: time is linear in the log's length even for hostile logs. No sector inside a valid entry can
 * begin with the entry signature (descriptor sectors begin with a descriptor, data sectors with `data`),
 * so an entry that claims to reach over another entry's start is refused before anything of it is read;
 * what is left is disjoint, and each sector is checksummed at most once.
 *
 * For the same reason entries form disjoint chains: each has at most one successor (the entry that
 * starts where it ends, with the next number). A sequence is the longest chain that ends with its head.
 */
import { crc32c } from '../../base/crc32c.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { readExact } from './binary.js';
import { vhdxCorrupt } from './defects.js';
import { hasSignature, PLACEMENT_UNIT } from './layout.js';
import {
  DESCRIPTOR_LENGTH,
  decodeEntryHeader,
  descriptorOffset,
  descriptorSectors,
  isDataSector,
  isEntryStart,
  LOG_CHECKSUM_AT,
  LOG_HEADER_LENGTH,
  LOG_SECTOR,
  type LogEntryHeader,
} from './log-codec.js';

/** Bytes read at a time. */
const CHUNK = PLACEMENT_UNIT;

/** A valid entry and where it starts in the ring (bytes). */
export interface LogEntry extends LogEntryHeader {
  position: number;
  dataDescriptors: number;
}

/** The entries to replay, oldest first; the last one is the head. */
export interface ActiveSequence {
  entries: readonly LogEntry[];
  head: LogEntry;
}

/** The ring: reads that wrap round its end. */
export class LogRing {
  readonly file: RandomAccessFile;
  /** File offset of the ring's first byte. */
  readonly offset: number;
  readonly length: number;

  constructor(file: RandomAccessFile, offset: number, length: number) {
    this.file = file;
    this.offset = offset;
    this.length = length;
  }

  /** File offset of a position that may lie past the ring's end. */
  at(position: number): number {
    return this.offset + (position % this.length);
  }

  /** `length` bytes from a position on, round the end; at most the ring's length. */
  async read(position: number, length: number): Promise<Uint8Array> {
    const start = position % this.length;
    const first = Math.min(length, this.length - start);
    const head = await readExact(this.file, this.offset + start, first, 'the log');
    if (first === length) return head;
    const bytes = new Uint8Array(length);
    bytes.set(head);
    bytes.set(await readExact(this.file, this.offset, length - first, 'the log'), first);
    return bytes;
  }
}

/**
 * Finds the sequence to replay.
 * @throws IMAGE_CORRUPT (VHDX_LOG_NO_SEQUENCE, VHDX_LOG_AMBIGUOUS), IO_FAILED
 */
export async function findActiveSequence(ring: LogRing, logGuid: string): Promise<ActiveSequence> {
  const entries = new Map<number, LogEntry>();
  for (const candidate of await findCandidates(ring, logGuid)) {
    const entry = await verifyEntry(ring, candidate);
    if (entry) entries.set(entry.position, entry);
  }
  let best: ActiveSequence | undefined;
  let tie = false;
  for (const chain of chainsOf(entries, ring.length)) {
    const sequence = validSequence(chain);
    if (!sequence || (best && sequence.head.sequence < best.head.sequence)) continue;
    tie = best !== undefined && sequence.head.sequence === best.head.sequence;
    best = sequence;
  }
  if (best && !tie) return best;
  const { file, offset } = ring;
  if (best) {
    const message = `two log sequences end with number ${best.head.sequence}`;
    throw vhdxCorrupt('VHDX_LOG_AMBIGUOUS', message, file.path, offset + best.head.position);
  }
  const message = 'the log is in use but holds no valid sequence of entries';
  throw vhdxCorrupt('VHDX_LOG_NO_SEQUENCE', message, file.path, offset);
}

type Candidate = LogEntryHeader & { position: number };

/** Entry headers that could belong to valid entries, in order of position; they do not overlap. */
async function findCandidates(ring: LogRing, logGuid: string): Promise<Candidate[]> {
  const starts: number[] = [];
  const plausible: Candidate[] = [];
  for (let base = 0; base < ring.length; base += CHUNK) {
    const bytes = await ring.read(base, Math.min(CHUNK, ring.length - base));
    for (let at = 0; at < bytes.length; at += LOG_SECTOR) {
      if (!isEntryStart(bytes, at)) continue;
      starts.push(base + at);
      const header = decodeEntryHeader(bytes.subarray(at, at + LOG_HEADER_LENGTH));
      if (header && isPlausible(header, ring.length, logGuid))
        plausible.push({ ...header, position: base + at });
    }
  }
  let next = 0;
  return plausible.filter((candidate) => {
    while ((starts[next] ?? Number.POSITIVE_INFINITY) <= candidate.position) next += 1;
    const following = starts[next] ?? (starts[0] ?? 0) + ring.length;
    return candidate.position + candidate.length <= following;
  });
}

function isPlausible(header: LogEntryHeader, ringLength: number, logGuid: string): boolean {
  return (
    header.logGuid === logGuid &&
    header.sequence > 0n &&
    header.length >= LOG_SECTOR &&
    header.length % LOG_SECTOR === 0 &&
    header.length <= ringLength &&
    header.tail < ringLength &&
    header.tail % LOG_SECTOR === 0 &&
    descriptorSectors(header.descriptorCount) * LOG_SECTOR <= header.length
  );
}

/** Reads a whole entry once, in chunks: every descriptor, every data sector, and the checksum. */
async function verifyEntry(ring: LogRing, candidate: Candidate): Promise<LogEntry | undefined> {
  const { position, length, sequence, descriptorCount } = candidate;
  const dataStart = descriptorSectors(descriptorCount) * LOG_SECTOR;
  let crc = 0;
  let dataDescriptors = 0;
  for (let done = 0; done < length; done += CHUNK) {
    const bytes = await ring.read(position + done, Math.min(CHUNK, length - done));
    if (done === 0) bytes.fill(0, LOG_CHECKSUM_AT, LOG_CHECKSUM_AT + 4);
    crc = crc32c(bytes, crc);
    for (let at = 0; at < bytes.length; at += LOG_SECTOR) {
      const within = done + at;
      if (within >= dataStart) {
        if (!isDataSector(bytes, at, sequence)) return undefined;
        continue;
      }
      const count = countDataDescriptors(bytes.subarray(at, at + LOG_SECTOR), within, candidate);
      if (count === undefined) return undefined;
      dataDescriptors += count;
    }
  }
  const complete = dataStart + dataDescriptors * LOG_SECTOR === length && crc === candidate.checksum;
  return complete ? { ...candidate, dataDescriptors } : undefined;
}

/** Data descriptors in one descriptor sector; undefined when one of its descriptors is wrong. */
function countDataDescriptors(sector: Uint8Array, within: number, candidate: Candidate): number | undefined {
  const view = new DataView(sector.buffer, sector.byteOffset, sector.byteLength);
  const end = Math.min(descriptorOffset(candidate.descriptorCount) - within, LOG_SECTOR);
  let count = 0;
  for (let at = within === 0 ? LOG_HEADER_LENGTH : 0; at < end; at += DESCRIPTOR_LENGTH) {
    const isData = hasSignature(sector, at, 'desc');
    if (!isData && !hasSignature(sector, at, 'zero')) return undefined;
    if (view.getBigUint64(at + 24, true) !== candidate.sequence) return undefined;
    if (isData) count += 1;
  }
  return count;
}

/** The maximal chains of entries that follow one another in place and number. */
function chainsOf(entries: ReadonlyMap<number, LogEntry>, ringLength: number): LogEntry[][] {
  const successor = (entry: LogEntry): LogEntry | undefined => {
    const next = entries.get((entry.position + entry.length) % ringLength);
    return next && next.sequence === entry.sequence + 1n ? next : undefined;
  };
  const followers = new Set<LogEntry>();
  for (const entry of entries.values()) {
    const next = successor(entry);
    if (next) followers.add(next);
  }
  const chains: LogEntry[][] = [];
  for (const first of entries.values()) {
    if (followers.has(first)) continue;
    const chain: LogEntry[] = [];
    for (let entry: LogEntry | undefined = first; entry; entry = successor(entry)) chain.push(entry);
    chains.push(chain);
  }
  return chains;
}

/** The part of a chain that its head's tail names; undefined when the tail is none of its entries. */
function validSequence(chain: readonly LogEntry[]): ActiveSequence | undefined {
  const head = chain.at(-1);
  if (!head) return undefined;
  const tail = chain.findIndex((entry) => entry.position === head.tail);
  return tail < 0 ? undefined : { entries: chain.slice(tail), head };
}

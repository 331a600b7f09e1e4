/**
 * Small NTFS volumes for tests, written straight from the on-disk layout, without the code under test.
 */
import type { SmallVolume } from '../free-space-kit.js';

export interface RunSpec {
  /** Undefined: a hole. */
  lcn: number | undefined;
  count: number;
}

export interface FileSpec {
  name: string;
  runs: RunSpec[];
  /** Written at the start of the first run. */
  content?: Uint8Array;
  size?: number;
}

export interface NtfsSpec {
  clusterBytes?: number;
  sectorBytes?: number;
  recordBytes?: number;
  clusters?: number;
  mft?: RunSpec[];
  bitmap?: RunSpec[];
  /** $MFT's or $Bitmap's second run lies in an extension record, named by an attribute list. */
  split?: ('mft' | 'bitmap')[];
  files?: FileSpec[];
  volumeFlags?: number;
  log?: 'clean' | 'idle' | 'open' | 'empty';
}

export const RECORDS = 32;
/** Extension records of $MFT and $Bitmap. */
const EXTENSION = { mft: 20, bitmap: 21 } as const;
export const FIRST_FILE = 24;
const LOG_BYTES = 32 * 1024;

function signedBytes(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push(((rest % 256) + 256) % 256);
    rest = Math.floor(rest / 256);
  } while (!((rest === 0 && (bytes.at(-1) ?? 0) < 128) || (rest === -1 && (bytes.at(-1) ?? 0) >= 128)));
  return bytes;
}

export function encodeRuns(runs: readonly RunSpec[]): Uint8Array {
  const bytes: number[] = [];
  let previous = 0;
  for (const { lcn, count } of runs) {
    const length = signedBytes(count);
    const place = lcn === undefined ? [] : signedBytes(lcn - previous);
    bytes.push(place.length * 16 + length.length, ...length, ...place);
    previous = lcn ?? previous;
  }
  return Uint8Array.from([...bytes, 0]);
}

export function resident(type: number, value: Uint8Array, instance = 0): Buffer {
  const attribute = Buffer.alloc(24 + Math.ceil(value.length / 8) * 8);
  attribute.writeUInt32LE(type, 0);
  attribute.writeUInt32LE(attribute.length, 4);
  attribute.writeUInt16LE(24, 10);
  attribute.writeUInt16LE(instance, 14);
  attribute.writeUInt32LE(value.length, 16);
  attribute.writeUInt16LE(24, 20);
  attribute.set(value, 24);
  return attribute;
}

export function count(runs: readonly RunSpec[]): number {
  return runs.reduce((sum, run) => sum + run.count, 0);
}

interface NonResident {
  firstVcn?: number;
  allocated: number;
  size: number;
  instance?: number;
}

function nonResident(type: number, runs: readonly RunSpec[], spec: NonResident): Buffer {
  const { firstVcn = 0, allocated, size, instance = 0 } = spec;
  const pairs = encodeRuns(runs);
  const attribute = Buffer.alloc(64 + Math.ceil(pairs.length / 8) * 8);
  attribute.writeUInt32LE(type, 0);
  attribute.writeUInt32LE(attribute.length, 4);
  attribute[8] = 1;
  attribute.writeUInt16LE(instance, 14);
  attribute.writeBigUInt64LE(BigInt(firstVcn), 16);
  attribute.writeBigInt64LE(BigInt(firstVcn + count(runs) - 1), 24);
  attribute.writeUInt16LE(64, 32);
  if (firstVcn === 0) {
    attribute.writeBigUInt64LE(BigInt(allocated), 40);
    attribute.writeBigUInt64LE(BigInt(size), 48);
    attribute.writeBigUInt64LE(BigInt(size), 56);
  }
  attribute.set(pairs, 64);
  return attribute;
}

function listEntry(type: number, firstVcn: number, record: number, instance: number): Buffer {
  const entry = Buffer.alloc(32);
  entry.writeUInt32LE(type, 0);
  entry.writeUInt16LE(32, 4);
  entry[7] = 26;
  entry.writeBigUInt64LE(BigInt(firstVcn), 8);
  entry.writeUInt32LE(record, 16);
  entry.writeUInt16LE(1, 22);
  entry.writeUInt16LE(instance, 24);
  return entry;
}

function fileName(name: string): Buffer {
  const value = Buffer.alloc(66 + name.length * 2);
  value.writeUInt32LE(5, 0);
  value.writeUInt16LE(5, 6);
  value[64] = name.length;
  value.write(name, 66, 'utf16le');
  return resident(0x30, value, 9);
}

function restartPage(lsn: bigint, inUse: number, flags: number): Buffer {
  const page = Buffer.alloc(4096);
  page.write('RSTR');
  page.writeUInt16LE(30, 4);
  page.writeUInt16LE(9, 6);
  page.writeUInt32LE(4096, 16);
  page.writeUInt32LE(4096, 20);
  page.writeUInt16LE(48, 24);
  page.writeUInt16LE(1, 26);
  page.writeUInt16LE(1, 28);
  page.writeBigUInt64LE(lsn, 48);
  page.writeUInt16LE(1, 56);
  page.writeUInt16LE(0xffff, 58);
  page.writeUInt16LE(inUse, 60);
  page.writeUInt16LE(flags, 62);
  return protect(page, 7);
}

/** Puts the update sequence into a record that has its offset and length. */
export function protect(record: Buffer, sequence: number): Buffer {
  const array = record.readUInt16LE(4);
  record.writeUInt16LE(sequence, array);
  for (let stride = 1; stride < record.readUInt16LE(6); stride += 1) {
    record.copy(record, array + stride * 2, stride * 512 - 2, stride * 512);
    record.writeUInt16LE(sequence, stride * 512 - 2);
  }
  return record;
}

/** A file record, protected. */
export function fileRecord(
  size: number,
  number: number,
  attributes: readonly Buffer[],
  { base = 0, flags = 1 } = {},
): Buffer {
  const record = Buffer.alloc(size);
  const entries = size / 512 + 1;
  const first = Math.ceil((48 + entries * 2) / 8) * 8;
  record.write('FILE');
  record.writeUInt16LE(48, 4);
  record.writeUInt16LE(entries, 6);
  record.writeUInt16LE(1, 16);
  record.writeUInt16LE(first, 20);
  record.writeUInt16LE(flags, 22);
  record.writeUInt32LE(size, 28);
  record.writeUInt32LE(base, 32);
  record.writeUInt32LE(number, 44);
  const end = Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
  const body = Buffer.concat([...attributes, end]);
  body.copy(record, first);
  record.writeUInt32LE(first + body.length, 24);
  return protect(record, 3);
}

export interface NtfsVolume extends SmallVolume {
  /** Byte offset of a file record. */
  recordAt(number: number): number;
  logAt: number;
  bitmapRuns: RunSpec[];
}

/** Attributes of a stream, cut after its first run where that is asked for. */
function streamAttributes(
  runs: readonly RunSpec[],
  spec: NonResident,
  split: number | undefined,
  base: number,
): { own: Buffer[]; extension: Buffer[] } {
  const [head, ...rest] = runs;
  if (split === undefined || !head) return { own: [nonResident(0x80, runs, spec)], extension: [] };
  const list = [listEntry(0x80, 0, base, 0), listEntry(0x80, head.count, split, 5)];
  return {
    own: [resident(0x20, Buffer.concat(list), 3), nonResident(0x80, [head], spec)],
    extension: [nonResident(0x80, rest, { ...spec, firstVcn: head.count, instance: 5 })],
  };
}

/** A volume with the system files and those asked for. Clusters that a run names are used, the rest is free. */
export function ntfsVolume(spec: NtfsSpec = {}): NtfsVolume {
  const { clusterBytes = 512, sectorBytes = 512, recordBytes = 1024, clusters = 12000, files = [] } = spec;
  const perCluster = (bytes: number) => Math.ceil(bytes / clusterBytes);
  const log: RunSpec[] = [{ lcn: Math.floor(clusters * 0.75), count: perCluster(LOG_BYTES) }];
  const mirror: RunSpec[] = [{ lcn: 40, count: perCluster(4 * recordBytes) }];
  const table = perCluster(RECORDS * recordBytes);
  const mft = spec.mft ?? [{ lcn: 100, count: table }];
  const bitmap = spec.bitmap ?? [{ lcn: 60, count: perCluster(clusters / 8) }];
  const boot: RunSpec[] = [{ lcn: 0, count: perCluster(8192) }];
  const disk = Buffer.alloc(clusters * clusterBytes + sectorBytes);
  const used = new Uint8Array(clusters);
  const streams = [boot, mft, mirror, log, bitmap, ...files.map(({ runs }) => runs)];
  for (const { lcn, count } of streams.flat()) if (lcn !== undefined) used.fill(1, lcn, lcn + count);

  const put = (runs: readonly RunSpec[], offset: number, bytes: Uint8Array): void => {
    for (let done = 0; done < bytes.length; done += 512) {
      const at = placeOf(runs, offset + done, clusterBytes);
      disk.set(bytes.subarray(done, done + 512), at);
    }
  };
  const records = new Map<number, Buffer>();
  const add = (number: number, attributes: Buffer[], options = {}): void => {
    records.set(number, fileRecord(recordBytes, number, attributes, options));
  };
  const whole = (runs: readonly RunSpec[], size = count(runs) * clusterBytes): Buffer =>
    nonResident(0x80, runs, { allocated: count(runs) * clusterBytes, size });

  const marks = Buffer.alloc(RECORDS / 8);
  const mftSpec = { allocated: count(mft) * clusterBytes, size: RECORDS * recordBytes };
  const mftPieces = streamAttributes(
    mft,
    mftSpec,
    spec.split?.includes('mft') ? EXTENSION.mft : undefined,
    0,
  );
  add(0, [...mftPieces.own, resident(0xb0, marks, 2)]);
  add(1, [whole(mirror, 4 * recordBytes)]);
  add(2, [whole(log, LOG_BYTES)]);
  const information = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0]);
  information.writeUInt16LE(spec.volumeFlags ?? 0, 10);
  add(3, [resident(0x70, information)]);
  for (const number of [4, 5, 9, 10, 11]) add(number, [fileName(`$system${number}`)]);
  const bitmapBytes = Buffer.alloc(Math.ceil(clusters / 64) * 8, 0xff);
  for (const [cluster, isUsed] of used.entries())
    if (!isUsed) bitmapBytes[cluster >> 3] = (bitmapBytes[cluster >> 3] ?? 0) & ~(1 << (cluster & 7));
  const bitmapSpec = { allocated: count(bitmap) * clusterBytes, size: bitmapBytes.length };
  const splitBitmap = spec.split?.includes('bitmap') ? EXTENSION.bitmap : undefined;
  const bitmapPieces = streamAttributes(bitmap, bitmapSpec, splitBitmap, 6);
  add(6, bitmapPieces.own);
  add(7, [whole(boot)]);
  add(8, [nonResident(0x80, [{ lcn: undefined, count: clusters }], { allocated: 0, size: 0 })]);
  if (mftPieces.extension.length > 0) add(EXTENSION.mft, mftPieces.extension, { base: 0 });
  if (bitmapPieces.extension.length > 0) add(EXTENSION.bitmap, bitmapPieces.extension, { base: 6 });
  for (const [index, { name, runs, content, size }] of files.entries()) {
    add(FIRST_FILE + index, [fileName(name), whole(runs, size)]);
    if (content) put(runs, 0, content);
  }

  for (const number of records.keys()) marks[number >> 3] = (marks[number >> 3] ?? 0) | (1 << (number & 7));
  add(0, [...mftPieces.own, resident(0xb0, marks, 2)]);
  for (const [number, record] of records) {
    put(mft, number * recordBytes, record);
    if (number < 4) put(mirror, number * recordBytes, record);
  }
  put(bitmap, 0, bitmapBytes);
  const page = { clean: [0, 2], idle: [0xffff, 0], open: [0, 0], empty: [0, 0] }[spec.log ?? 'clean'];
  const logBytes = Buffer.alloc(LOG_BYTES, 0xff);
  if (spec.log !== 'empty') {
    restartPage(100n, page[0] ?? 0, page[1] ?? 0).copy(logBytes, 0);
    restartPage(90n, 0, 0).copy(logBytes, 4096);
  }
  put(log, 0, logBytes);
  writeBoot(disk, { clusterBytes, sectorBytes, recordBytes, clusters, mft, mirror });
  const recordAt = (number: number): number => placeOf(mft, number * recordBytes, clusterBytes);
  const ranges = [mft, bitmap, mirror].flat().map((run) => ({
    offset: (run.lcn ?? 0) * clusterBytes,
    length: run.count * clusterBytes,
  }));
  const logAt = placeOf(log, 0, clusterBytes);
  const structures = [{ offset: 0, length: 512 }, { offset: logAt, length: 8192 }, ...ranges];
  return { disk, clusterBytes, firstCluster: 0, used, structures, recordAt, logAt, bitmapRuns: bitmap };
}

function placeOf(runs: readonly RunSpec[], offset: number, clusterBytes: number): number {
  let before = 0;
  for (const { lcn, count } of runs) {
    const inRun = offset - before;
    if (inRun < count * clusterBytes) return (lcn ?? 0) * clusterBytes + inRun;
    before += count * clusterBytes;
  }
  throw new Error('past the end of a file');
}

interface BootSpec {
  clusterBytes: number;
  sectorBytes: number;
  recordBytes: number;
  clusters: number;
  mft: readonly RunSpec[];
  mirror: readonly RunSpec[];
}

function writeBoot(disk: Buffer, spec: BootSpec): void {
  const { clusterBytes, sectorBytes, recordBytes } = spec;
  const perCluster = clusterBytes / sectorBytes;
  disk.write('NTFS    ', 3);
  disk.writeUInt16LE(sectorBytes, 11);
  disk[13] = perCluster > 128 ? 256 - Math.log2(perCluster) : perCluster;
  disk[21] = 0xf8;
  disk.writeBigUInt64LE(BigInt(spec.clusters * perCluster), 40);
  disk.writeBigUInt64LE(BigInt(spec.mft[0]?.lcn ?? 0), 48);
  disk.writeBigUInt64LE(BigInt(spec.mirror[0]?.lcn ?? 0), 56);
  disk.writeInt8(recordBytes >= clusterBytes ? recordBytes / clusterBytes : -Math.log2(recordBytes), 64);
  disk.writeUInt16LE(0xaa55, 510);
}

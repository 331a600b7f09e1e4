/**
 * The layout of a sparse write-once device, and its header.
 *
 *     0                header, 4 KiB; the same again at 4 KiB
 *     64 KiB           map, first copy: pages of 4 KiB (map-page.ts)
 *     confirmedOffset  map, second copy
 *     dataOffset       the data: byte n of the primary at dataOffset + n
 *
 * Everything is little-endian and follows from size and chunk size: the offsets in the header are for other
 * readers, and must be those. The header never changes once the device is there, so its two copies are for
 * damage, not for crashes. docs/write-once.md describes the format for everybody else.
 */
import { KiB, MiB, roundUp, toSafeNumber } from '../../../base/bytes.js';
import { crc32c } from '../../../base/crc32c.js';
import { VhdkitError } from '../../../base/errors.js';
import type { RandomAccessFile } from '../../../io/random-access-file.js';
import { chunkCount, shapeProblem, type WriteOnceShape, writeOnceCorrupt } from '../shape.js';

export const MAGIC = 'vhdkitwo';
const VERSION = 1;
export const HEADER_BYTES = 4 * KiB;
const MAP_OFFSET = 64 * KiB;
export const PAGE_BYTES = 4 * KiB;
export const PAGE_HEADER_BYTES = 32;
/** Chunks that one page of the map tells of: 32512, or 1.98 GiB in chunks of 64 KiB. */
export const CHUNKS_PER_PAGE = (PAGE_BYTES - PAGE_HEADER_BYTES) * 8;
const DEVICE_ID_BYTES = 16;

/** Byte offsets of the header's fields. */
const FIELD = {
  version: 8,
  checksum: 12,
  size: 16,
  chunkSize: 24,
  pages: 28,
  deviceId: 32,
  mapOffset: 48,
  confirmedOffset: 56,
  dataOffset: 64,
  idLength: 72,
  id: 74,
} as const;

/** Offsets and sizes in bytes. */
export interface SparseLayout extends WriteOnceShape {
  chunks: number;
  /** Pages of each copy of the map. */
  pages: number;
  mapOffset: number;
  confirmedOffset: number;
  dataOffset: number;
  /** Tells pages of this device from those of one that lay there before. */
  deviceId: Uint8Array;
}

export function layoutOf(shape: WriteOnceShape, deviceId: Uint8Array): SparseLayout {
  const chunks = chunkCount(shape);
  const pages = Math.ceil(chunks / CHUNKS_PER_PAGE);
  const confirmedOffset = roundUp(MAP_OFFSET + pages * PAGE_BYTES, 64 * KiB);
  const dataOffset = roundUp(confirmedOffset + pages * PAGE_BYTES, MiB);
  return { ...shape, chunks, pages, mapOffset: MAP_OFFSET, confirmedOffset, dataOffset, deviceId };
}

export function encodeHeader(layout: SparseLayout): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  const id = Buffer.from(layout.primaryId);
  bytes.set(Buffer.from(MAGIC, 'latin1'), 0);
  view.setUint32(FIELD.version, VERSION, true);
  view.setBigUint64(FIELD.size, BigInt(layout.size), true);
  view.setUint32(FIELD.chunkSize, layout.chunkSize, true);
  view.setUint32(FIELD.pages, layout.pages, true);
  bytes.set(layout.deviceId, FIELD.deviceId);
  view.setBigUint64(FIELD.mapOffset, BigInt(layout.mapOffset), true);
  view.setBigUint64(FIELD.confirmedOffset, BigInt(layout.confirmedOffset), true);
  view.setBigUint64(FIELD.dataOffset, BigInt(layout.dataOffset), true);
  view.setUint16(FIELD.idLength, id.length, true);
  bytes.set(id, FIELD.id);
  view.setUint32(FIELD.checksum, crc32c(bytes), true);
  return bytes;
}

/** True for bytes that begin like a device of this kind, whatever the rest says. */
export function hasMagic(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, MAGIC.length)).toString('latin1') === MAGIC;
}

/** The layout that one copy of the header states; undefined when the copy is damaged. */
function decodeHeader(bytes: Uint8Array, path: string): SparseLayout | undefined {
  if (bytes.length < HEADER_BYTES || !hasMagic(bytes)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const copy = Uint8Array.from(bytes);
  copy.fill(0, FIELD.checksum, FIELD.checksum + 4);
  if (view.getUint32(FIELD.checksum, true) !== crc32c(copy)) return undefined;
  const version = view.getUint32(FIELD.version, true);
  if (version !== VERSION) {
    throw new VhdkitError('UNSUPPORTED', `${path} is a write-once device of version ${version}`, {
      operation: 'open write-once device',
      context: { path },
      hint: `This vhdkit knows version ${VERSION}: use a newer one.`,
    });
  }
  const idLength = view.getUint16(FIELD.idLength, true);
  const shape = {
    size: toSafeNumber(view.getBigUint64(FIELD.size, true)) ?? 0,
    chunkSize: view.getUint32(FIELD.chunkSize, true),
    primaryId: Buffer.from(bytes.subarray(FIELD.id, FIELD.id + idLength)).toString(),
  };
  if (shapeProblem(shape) !== undefined) return undefined;
  const deviceId = bytes.slice(FIELD.deviceId, FIELD.deviceId + DEVICE_ID_BYTES);
  const layout = layoutOf(shape, deviceId);
  const stated = [FIELD.mapOffset, FIELD.confirmedOffset, FIELD.dataOffset].map((field) =>
    toSafeNumber(view.getBigUint64(field, true)),
  );
  const follows =
    stated[0] === layout.mapOffset &&
    stated[1] === layout.confirmedOffset &&
    stated[2] === layout.dataOffset &&
    view.getUint32(FIELD.pages, true) === layout.pages;
  return follows ? layout : undefined;
}

/** @throws IMAGE_CORRUPT, UNSUPPORTED (a newer version), IO_FAILED */
export async function readLayout(file: RandomAccessFile): Promise<SparseLayout> {
  for (const offset of [0, HEADER_BYTES]) {
    const bytes = new Uint8Array(HEADER_BYTES);
    const count = await file.read(bytes, offset);
    const layout = decodeHeader(bytes.subarray(0, count), file.path);
    if (layout) return assertThere(file, layout);
  }
  throw writeOnceCorrupt('WRITE_ONCE_HEADER_DAMAGED', 'both copies of its header are damaged', {
    path: file.path,
    offset: 0,
  });
}

function assertThere(file: RandomAccessFile, layout: SparseLayout): SparseLayout {
  const needed = layout.dataOffset + layout.size;
  const there = file.size();
  if (there >= needed) return layout;
  throw writeOnceCorrupt('WRITE_ONCE_CUT_OFF', `it ends at ${there} bytes, of ${needed} that belong to it`, {
    path: file.path,
    offset: there,
  });
}

export function newDeviceId(bytes: (count: number) => Uint8Array): Uint8Array {
  return bytes(DEVICE_ID_BYTES);
}

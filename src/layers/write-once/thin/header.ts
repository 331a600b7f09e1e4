/**
 * The beginning of a thin device's data file: what it is, and the id by which its map knows it.
 *
 *     0       "vhdkitth", version (4), CRC-32C of the 4 KiB with this field zero (4), id of the device (16)
 *     64 KiB  slots of one chunk each, in the order in which they were given out
 *
 * Little-endian. All else (size, chunk size, primary, which slot holds which chunk) is in the map.
 */
import { KiB } from '../../../base/bytes.js';
import { crc32c } from '../../../base/crc32c.js';
import { VhdkitError } from '../../../base/errors.js';
import type { RandomAccessFile } from '../../../io/random-access-file.js';
import { writeOnceCorrupt } from '../shape.js';

const MAGIC = 'vhdkitth';
const VERSION = 1;
const HEADER_BYTES = 4 * KiB;
const FIELD = { version: 8, checksum: 12, deviceId: 16 } as const;
export const FIRST_SLOT = 64 * KiB;
export const DEVICE_ID_BYTES = 16;

export function isThin(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.subarray(0, MAGIC.length)).toString('latin1') === MAGIC;
}

export function encodeThinHeader(deviceId: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(Buffer.from(MAGIC, 'latin1'), 0);
  view.setUint32(FIELD.version, VERSION, true);
  bytes.set(deviceId, FIELD.deviceId);
  view.setUint32(FIELD.checksum, crc32c(bytes), true);
  return bytes;
}

/** The device's id, in hexadecimal. @throws IMAGE_CORRUPT, UNSUPPORTED (a newer version), IO_FAILED */
export async function readThinHeader(file: RandomAccessFile): Promise<string> {
  const bytes = new Uint8Array(HEADER_BYTES);
  const count = await file.read(bytes, 0);
  const view = new DataView(bytes.buffer);
  const stated = view.getUint32(FIELD.checksum, true);
  view.setUint32(FIELD.checksum, 0, true);
  const { path } = file;
  if (count < HEADER_BYTES || !isThin(bytes) || stated !== crc32c(bytes))
    throw writeOnceCorrupt('WRITE_ONCE_HEADER_DAMAGED', 'its header is damaged', { path, offset: 0 });
  if (view.getUint32(FIELD.version, true) !== VERSION) {
    throw new VhdkitError('UNSUPPORTED', `${path} is a write-once device of another version`, {
      operation: 'open write-once device',
      context: { path },
      hint: `This vhdkit knows version ${VERSION}: use a newer one.`,
    });
  }
  return Buffer.from(bytes.subarray(FIELD.deviceId, FIELD.deviceId + DEVICE_ID_BYTES)).toString('hex');
}

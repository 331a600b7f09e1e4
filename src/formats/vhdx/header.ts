/**
 * The file identifier and the two headers (MS-VHDX 2.2.1, 2.2.2).
 *
 * Invariant: a header counts only with a right signature and checksum; of two valid ones the greater
 * sequence number is current. Nothing here writes into a file.
 */
import { NIL_GUID } from '../../base/guid.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { Finding } from '../finding.js';
import {
  checksumWithout,
  getGuid,
  sealChecksum,
  setAscii,
  setGuid,
  setU64,
  utf16,
  viewOf,
} from './binary.js';
import { vhdxCorrupt, vhdxFinding, vhdxUnsupported } from './defects.js';
import {
  HEADER_LENGTH,
  HEADER_OFFSETS,
  hasSignature,
  isVhdx,
  MAX_FILE_OFFSET,
  MAX_LOG_LENGTH,
  PLACEMENT_UNIT,
} from './layout.js';

export interface VhdxHeader {
  sequence: bigint;
  fileWriteGuid: string;
  dataWriteGuid: string;
  /** The nil GUID: the log is empty. */
  logGuid: string;
  logVersion: number;
  version: number;
  /** Bytes. */
  logLength: number;
  /** Bytes, as stored. */
  logOffset: bigint;
}

export interface CurrentHeader {
  header: VhdxHeader;
  /** Byte offset of the copy that is current. */
  offset: number;
  findings: Finding[];
}

const CREATOR_OFFSET = 8;
const CREATOR_LENGTH = 512;
const CHECKSUM_AT = 4;

/** The creator text of an identifier: up to the first NUL, without control characters. */
export function decodeCreator(bytes: Uint8Array): string {
  const text = utf16(bytes.subarray(CREATOR_OFFSET, CREATOR_OFFSET + CREATOR_LENGTH));
  const end = text.indexOf('\0');
  return (end < 0 ? text : text.slice(0, end)).replace(/\p{C}/gu, '').trim();
}

/** Signature and creator; the rest of the 64 KiB stays zero. */
export function encodeIdentifier(creator: string): Uint8Array {
  const bytes = new Uint8Array(CREATOR_OFFSET + CREATOR_LENGTH);
  setAscii(bytes, 0, 'vhdxfile');
  bytes.set(Buffer.from(creator, 'utf16le').subarray(0, CREATOR_LENGTH), CREATOR_OFFSET);
  return bytes;
}

/**
 * Reads the identifier; returns the creator.
 * @throws IMAGE_CORRUPT (VHDX_SIGNATURE_MISSING), IO_FAILED
 */
export async function readIdentifier(file: RandomAccessFile): Promise<string> {
  const bytes = new Uint8Array(CREATOR_OFFSET + CREATOR_LENGTH);
  await file.read(bytes, 0);
  if (!isVhdx(bytes)) {
    throw vhdxCorrupt('VHDX_SIGNATURE_MISSING', 'not a VHDX file: the signature is missing', file.path, 0);
  }
  return decodeCreator(bytes);
}

/** The header in 4096 bytes; undefined when signature or checksum is wrong. */
export function decodeHeader(bytes: Uint8Array): VhdxHeader | undefined {
  if (bytes.length < HEADER_LENGTH || !hasSignature(bytes, 0, 'head')) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(CHECKSUM_AT, true) !== checksumWithout(bytes.subarray(0, HEADER_LENGTH), CHECKSUM_AT)) {
    return undefined;
  }
  return {
    sequence: view.getBigUint64(8, true),
    fileWriteGuid: getGuid(bytes, 16),
    dataWriteGuid: getGuid(bytes, 32),
    logGuid: getGuid(bytes, 48),
    logVersion: view.getUint16(64, true),
    version: view.getUint16(66, true),
    logLength: view.getUint32(68, true),
    logOffset: view.getBigUint64(72, true),
  };
}

/** The 4096 bytes of a header, checksum included. */
export function encodeHeader(header: VhdxHeader): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH);
  const view = viewOf(bytes);
  setAscii(bytes, 0, 'head');
  setU64(view, 8, header.sequence);
  setGuid(bytes, 16, header.fileWriteGuid);
  setGuid(bytes, 32, header.dataWriteGuid);
  setGuid(bytes, 48, header.logGuid);
  view.setUint16(64, header.logVersion, true);
  view.setUint16(66, header.version, true);
  view.setUint32(68, header.logLength, true);
  setU64(view, 72, header.logOffset);
  return sealChecksum(bytes, CHECKSUM_AT);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/**
 * Reads both headers and chooses the current one.
 *
 * Equal sequence numbers are not defined by the specification; twins that are the same byte for byte
 * (some converters write them) are harmless, others leave no way to choose.
 * @throws IMAGE_CORRUPT (VHDX_HEADER_INVALID, VHDX_HEADERS_AMBIGUOUS), UNSUPPORTED, IO_FAILED
 */
export async function readCurrentHeader(file: RandomAccessFile): Promise<CurrentHeader> {
  const copies: { bytes: Uint8Array; header: VhdxHeader | undefined; offset: number }[] = [];
  for (const offset of HEADER_OFFSETS) {
    const buffer = new Uint8Array(HEADER_LENGTH);
    const bytes = buffer.subarray(0, await file.read(buffer, offset));
    copies.push({ bytes, header: decodeHeader(bytes), offset });
  }
  const findings: Finding[] = [];
  let current: { bytes: Uint8Array; header: VhdxHeader; offset: number } | undefined;
  for (const { bytes, header, offset } of copies) {
    if (!header) {
      const message = 'this header copy is damaged; the other one is used';
      findings.push(vhdxFinding('VHDX_HEADER_COPY_DAMAGED', 'warning', message, offset));
    } else if (!current || header.sequence > current.header.sequence) {
      current = { bytes, header, offset };
    } else if (header.sequence === current.header.sequence) {
      if (!sameBytes(bytes, current.bytes)) {
        const message = `both headers have sequence number ${header.sequence} but differ`;
        throw vhdxCorrupt('VHDX_HEADERS_AMBIGUOUS', message, file.path, offset);
      }
      const message = 'both headers are the same, sequence number included';
      findings.push(vhdxFinding('VHDX_HEADERS_TWINS', 'note', message, offset, true));
    }
  }
  if (!current) {
    throw vhdxCorrupt('VHDX_HEADER_INVALID', 'no valid header', file.path, HEADER_OFFSETS[0] ?? 0);
  }
  checkHeader(current.header, current.offset, file.path, findings);
  return { header: current.header, offset: current.offset, findings };
}

function checkHeader(header: VhdxHeader, offset: number, path: string, findings: Finding[]): void {
  if (header.version !== 1) {
    throw vhdxUnsupported(
      'VHDX_VERSION_UNSUPPORTED',
      `VHDX version ${header.version} is not supported`,
      path,
      offset + 66,
      'Only version 1 exists; convert the image with the program that wrote it.',
    );
  }
  if (header.sequence === 2n ** 64n - 1n) {
    const message = 'the sequence number is the greatest possible; the image cannot be changed any more';
    findings.push(vhdxFinding('VHDX_HEADER_SEQUENCE_EXHAUSTED', 'warning', message, offset + 8));
  }
}

/** Where the log is. */
export interface LogPlacement {
  offset: number;
  length: number;
  inUse: boolean;
}

/**
 * Checks the log's place; undefined when there is no log at all. An empty log outside the file is only a
 * finding: nothing has to be read from it.
 * @throws IMAGE_CORRUPT (VHDX_LOG_PLACEMENT_INVALID), UNSUPPORTED (log version, when the log is in use)
 */
export function logPlacement(
  current: CurrentHeader,
  fileSize: number,
  path: string,
): LogPlacement | undefined {
  const { header } = current;
  const inUse = header.logGuid !== NIL_GUID;
  if (!inUse && header.logLength === 0) return undefined;
  const fail = (message: string, at: number): Error =>
    vhdxCorrupt('VHDX_LOG_PLACEMENT_INVALID', message, path, current.offset + at);
  if (inUse && header.logVersion !== 0) {
    throw vhdxUnsupported(
      'VHDX_LOG_VERSION_UNSUPPORTED',
      `log version ${header.logVersion} is not supported`,
      path,
      current.offset + 64,
      'Let the program that wrote the image replay its log first.',
    );
  }
  const { logLength } = header;
  if (logLength === 0 || logLength % PLACEMENT_UNIT !== 0 || logLength > MAX_LOG_LENGTH) {
    throw fail(`log length ${logLength} is not a multiple of 1 MiB up to 1 GiB`, 68);
  }
  const unit = BigInt(PLACEMENT_UNIT);
  if (header.logOffset < unit || header.logOffset % unit !== 0n) {
    throw fail(`log offset ${header.logOffset} is not a multiple of 1 MiB behind the headers`, 72);
  }
  if (header.logOffset + BigInt(logLength) > BigInt(fileSize)) {
    const message = 'the log lies outside the file';
    if (inUse || header.logOffset > BigInt(MAX_FILE_OFFSET)) throw fail(message, 72);
    current.findings.push(
      vhdxFinding('VHDX_LOG_PLACEMENT_INVALID', 'warning', `${message} (it is empty)`, current.offset + 72),
    );
  }
  return { offset: Number(header.logOffset), length: logLength, inUse };
}

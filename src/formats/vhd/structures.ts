/**
 * Reads and judges the structures of a VHD: footer, header, parent link.
 *
 * Invariant: what is returned is safe to use: the size is a safe number, the block table lies inside the
 * file, nothing was allocated by a number from the file without a bound. Reading never writes.
 *
 * Deliberately not here: the contents of the block table, which are checked entry by entry when used.
 */
import { guidFromBytes, NIL_GUID } from '../../base/guid.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageType, OpenImageOptions, ParentLink } from '../disk-image.js';
import type { Finding } from '../finding.js';
import type { BlockRules, MetadataRange } from './block-place.js';
import { finding, vhdError } from './defects.js';
import {
  type BlockTable,
  type DynamicHeader,
  decodeHeader,
  HEADER_BYTES,
  HEADER_FIELD,
  headerChecksumOk,
  isHeaderCookie,
  judgeHeader,
} from './dynamic-header.js';
import { DISK_TYPE, FOOTER_BYTES, FOOTER_FIELD, NO_OFFSET, type VhdFooter } from './footer.js';
import { chooseFooter, type FooterCopy, findFooters } from './footer-search.js';
import { CHS_CREATORS } from './footer-size.js';
import { geometrySize } from './geometry.js';
import { parentCandidates, type ReadableLocator, readableLocators } from './parent-locator.js';
import { fromVhdTimestamp } from './timestamp.js';

/** What every VHD has. Offsets and sizes in bytes. */
export interface VhdStructures {
  file: RandomAccessFile;
  type: ImageType;
  footer: VhdFooter;
  copy: FooterCopy;
  virtualSize: number;
  /** Where the usable part of the file ends: the footer, or the file's length without one. */
  limit: number;
  warnings: Finding[];
  tolerant: boolean;
}

/** A dynamic or differencing VHD. */
export interface SparseStructures extends VhdStructures {
  header: DynamicHeader;
  headerOffset: number;
  table: BlockTable;
  rules: BlockRules;
  locators: ReadableLocator[];
  parentLink: ParentLink | undefined;
}

/** Oddities of the values that do not stand in the way of reading. */
function footerValueFindings(footer: VhdFooter, offset: number): Finding[] {
  const findings: Finding[] = [];
  const chs = geometrySize(footer.geometry);
  const size = Number(footer.currentSize);
  if (CHS_CREATORS.has(footer.creatorApplication) && chs < size) {
    const message = `Virtual PC and QEMU may show only ${chs} of the ${size} bytes, because they go by the geometry`;
    findings.push(finding('VHD_GEOMETRY_SMALLER', 'note', message, offset + FOOTER_FIELD.geometry, true));
  }
  if (size % FOOTER_BYTES !== 0) {
    const message = `the disk size of ${size} bytes is not a multiple of 512`;
    findings.push(finding('VHD_SIZE_NOT_SECTORS', 'warning', message, offset + FOOTER_FIELD.currentSize));
  }
  if (footer.savedState !== 0) {
    const message =
      'the virtual machine of this disk was saved, not shut down: changing the disk may damage its contents';
    findings.push(finding('VHD_SAVED_STATE', 'note', message, offset + FOOTER_FIELD.savedState));
  }
  return findings;
}

async function readEdges(
  file: RandomAccessFile,
): Promise<{ head: Uint8Array; tail: Uint8Array; size: number }> {
  const size = file.size();
  const head = new Uint8Array(Math.min(FOOTER_BYTES, size));
  const tail = new Uint8Array(head.length);
  const headCount = await file.read(head, 0);
  const tailCount = await file.read(tail, size - tail.length);
  return { head: head.subarray(0, headCount), tail: tail.subarray(0, tailCount), size };
}

/**
 * Finds the footer and judges it.
 * @throws IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED
 */
export async function readFooter(file: RandomAccessFile, options: OpenImageOptions): Promise<VhdStructures> {
  const { head, tail, size } = await readEdges(file);
  const { copy, findings } = chooseFooter(findFooters(head, tail, size), file.path, size);
  const { footer } = copy;
  const types = { [DISK_TYPE.fixed]: 'fixed', [DISK_TYPE.dynamic]: 'dynamic' } as const;
  return {
    file,
    type: types[footer.diskType as 2 | 3] ?? 'differencing',
    footer,
    copy,
    virtualSize: Number(footer.currentSize),
    limit: copy.where === 'start' ? size : copy.offset,
    warnings: [...findings, ...footerValueFindings(footer, copy.offset)],
    tolerant: options.tolerant === true,
  };
}

/**
 * Checks that a fixed disk's payload is all there.
 * @throws IMAGE_CORRUPT unless tolerant
 */
export function judgeFixed(structures: VhdStructures): void {
  const { virtualSize, limit, copy, file } = structures;
  if (virtualSize <= limit) return;
  const message = `the disk has ${virtualSize} bytes, but only ${limit} of them are in the file`;
  const offset = copy.offset + FOOTER_FIELD.currentSize;
  if (!structures.tolerant) {
    throw vhdError('IMAGE_CORRUPT', 'VHD_FIXED_TRUNCATED', message, { path: file.path, offset });
  }
  structures.warnings.push(
    finding('VHD_FIXED_TRUNCATED', 'error', `${message}; the rest reads as zeros`, offset),
  );
}

async function readHeader(structures: VhdStructures): Promise<{ bytes: Uint8Array; offset: number }> {
  const { file, footer, copy, limit } = structures;
  const place = { path: file.path, offset: copy.offset + FOOTER_FIELD.dataOffset };
  const { dataOffset } = footer;
  if (dataOffset < BigInt(FOOTER_BYTES) || dataOffset + BigInt(HEADER_BYTES) > BigInt(limit)) {
    const message = `the dynamic header is said to be at ${dataOffset}, outside the file`;
    throw vhdError('IMAGE_CORRUPT', 'VHD_HEADER_OUTSIDE_FILE', message, place);
  }
  const offset = Number(dataOffset);
  const bytes = new Uint8Array(HEADER_BYTES);
  const count = await file.read(bytes, offset);
  if (count < HEADER_BYTES) {
    const message = 'the file ends within the dynamic header';
    throw vhdError('IMAGE_CORRUPT', 'VHD_HEADER_OUTSIDE_FILE', message, { ...place, offset });
  }
  if (!isHeaderCookie(bytes)) {
    const message = 'no dynamic header where the footer says it is';
    throw vhdError('IMAGE_CORRUPT', 'VHD_HEADER_COOKIE', message, { ...place, offset });
  }
  return { bytes, offset };
}

function headerFindings(bytes: Uint8Array, header: DynamicHeader, offset: number): Finding[] {
  const findings: Finding[] = [];
  if (!headerChecksumOk(bytes)) {
    const at = offset + HEADER_FIELD.checksum;
    findings.push(
      finding('VHD_HEADER_CHECKSUM', 'warning', 'the checksum of the dynamic header is wrong', at, true),
    );
  }
  if (header.dataOffset !== NO_OFFSET) {
    const message = 'the unused data offset of the dynamic header is not all ones';
    findings.push(finding('VHD_RESERVED_FIELD', 'note', message, offset + HEADER_FIELD.dataOffset, true));
  }
  return findings;
}

/** @throws UNSUPPORTED for a raw parent, IO_FAILED */
async function readParentLink(
  structures: VhdStructures,
  header: DynamicHeader,
  headerOffset: number,
  locators: readonly ReadableLocator[],
): Promise<ParentLink | undefined> {
  if (structures.type !== 'differencing') return undefined;
  const id = guidFromBytes(header.parentUniqueId);
  if (id === NIL_GUID) {
    const message =
      'the parent id is all zeros, which is how XenServer (blktap) refers to a raw parent; that is not supported';
    throw vhdError('UNSUPPORTED', 'VHD_PARENT_RAW', message, {
      path: structures.file.path,
      offset: headerOffset + HEADER_FIELD.parentUniqueId,
      hint: 'A raw parent has no id to check against. Merge the child into its parent on the XenServer host.',
    });
  }
  const { parentTimestamp } = header;
  return {
    acceptedIds: [id],
    candidates: await parentCandidates(structures.file, header, locators),
    ...(parentTimestamp === 0 ? {} : { parentModified: fromVhdTimestamp(parentTimestamp) }),
  };
}

export function fixedRanges(table: BlockTable, headerOffset: number): MetadataRange[] {
  return [
    { name: 'the copy of the footer', start: 0, end: FOOTER_BYTES },
    { name: 'the dynamic header', start: headerOffset, end: headerOffset + HEADER_BYTES },
    { name: 'the block table', start: table.offset, end: table.offset + table.entries * 4 },
  ];
}

/**
 * Reads what dynamic and differencing disks have beyond the footer.
 * @throws IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED
 */
export async function readSparse(structures: VhdStructures): Promise<SparseStructures> {
  const { file, virtualSize, limit, tolerant, copy } = structures;
  const { bytes, offset: headerOffset } = await readHeader(structures);
  const header = decodeHeader(bytes);
  const table = judgeHeader(header, { path: file.path, offset: headerOffset, virtualSize, limit });
  const { locators, findings } = readableLocators(header, headerOffset, limit);
  return {
    ...structures,
    header,
    headerOffset,
    table,
    rules: {
      table,
      virtualSize,
      limit,
      complete: copy.where !== 'start',
      tolerant,
      metadata: fixedRanges(table, headerOffset),
    },
    locators,
    parentLink: await readParentLink(structures, header, headerOffset, locators),
    warnings: [...structures.warnings, ...headerFindings(bytes, header, headerOffset), ...findings],
  };
}

/**
 * Parent locators: where a differencing disk says its parent is, in up to eight notations.
 *
 * Invariant: every length is checked before it is read; a broken locator is a finding, never an error,
 * because another one or the parent name may still lead to the parent. Nothing here decides whether a
 * candidate is the parent: that is a comparison of ids, made by the chain.
 */
import { roundUp } from '../../base/bytes.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ParentCandidate } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { finding } from './defects.js';
import { type DynamicHeader, type ParentLocatorEntry, SECTOR_BYTES } from './dynamic-header.js';

/** Longest locator text read. Windows paths end at 64 KiB (32 767 UTF-16 units). */
const MAX_LOCATOR_BYTES = 64 * 1024;

/** Text locators in the order in which they are tried, with their encodings. */
const CODECS: ReadonlyArray<readonly [code: string, decode: (bytes: Uint8Array) => string]> = [
  ['W2ru', decodeUtf16Le],
  ['W2ku', decodeUtf16Le],
  ['MacX', (bytes) => Buffer.from(bytes).toString('utf8')],
  ['Wi2r', (bytes) => Buffer.from(bytes).toString('latin1')],
  ['Wi2k', (bytes) => Buffer.from(bytes).toString('latin1')],
];

const NO_CODE = '\0\0\0\0';

function decodeUtf16Le(bytes: Uint8Array): string {
  return Buffer.from(bytes.subarray(0, bytes.length & ~1)).toString('utf16le');
}

/** The parent name field: UTF-16BE, other than the locators. */
export function decodeUtf16Be(bytes: Uint8Array): string {
  const swapped = Buffer.from(bytes.subarray(0, bytes.length & ~1));
  return swapped.swap16().toString('utf16le');
}

function untilNul(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/**
 * Bytes reserved for a locator. The specification counts sectors, most writers store bytes: below 512 it
 * can only be sectors. Source: VHD specification 1.0, "Platform Data Space", and the images of Windows.
 */
export function locatorSpace(entry: Pick<ParentLocatorEntry, 'dataSpace' | 'dataLength'>): number {
  const { dataSpace, dataLength } = entry;
  const stated = dataSpace < SECTOR_BYTES ? dataSpace * SECTOR_BYTES : dataSpace;
  return Math.max(stated, roundUp(dataLength, SECTOR_BYTES));
}

/** Why a locator can't be read; undefined when it can. */
function locatorProblem(entry: ParentLocatorEntry, limit: number): string | undefined {
  if (entry.dataLength === 0) return 'is empty';
  if (entry.dataLength > MAX_LOCATOR_BYTES) return `claims ${entry.dataLength} bytes`;
  if (entry.dataOffset + BigInt(entry.dataLength) > BigInt(limit)) return 'lies outside the file';
  return undefined;
}

/** A locator whose place in the file is checked. */
export interface ReadableLocator {
  code: string;
  offset: number;
  length: number;
  /** Bytes reserved for it, the text included. */
  room: number;
}

/**
 * The locators in use, split into readable ones and findings.
 * @param headerOffset byte offset of the header in the file
 * @param limit where the usable part of the file ends
 */
export function readableLocators(
  header: DynamicHeader,
  headerOffset: number,
  limit: number,
): { locators: ReadableLocator[]; findings: Finding[] } {
  const locators: ReadableLocator[] = [];
  const findings: Finding[] = [];
  for (const entry of header.locators) {
    if (entry.code === NO_CODE) continue;
    const problem = locatorProblem(entry, limit);
    if (problem === undefined) {
      const { code, dataLength: length } = entry;
      locators.push({ code, offset: Number(entry.dataOffset), length, room: locatorSpace(entry) });
    } else {
      const name = /^[\w ]{4}$/.test(entry.code) ? entry.code : 'of an unknown kind';
      const message = `the parent locator ${name} ${problem} and is ignored`;
      findings.push(finding('VHD_LOCATOR_INVALID', 'warning', message, headerOffset + entry.field));
    }
  }
  return { locators, findings };
}

/**
 * Where the parent may be, in the order in which it is to be looked for: relative before absolute path,
 * current before deprecated notations, and the parent name last (streaming tools drop all locators).
 * @throws IO_FAILED
 */
export async function parentCandidates(
  file: RandomAccessFile,
  header: DynamicHeader,
  locators: readonly ReadableLocator[],
): Promise<ParentCandidate[]> {
  const candidates: ParentCandidate[] = [];
  for (const [code, decode] of CODECS) {
    for (const locator of locators.filter((each) => each.code === code)) {
      const bytes = new Uint8Array(locator.length);
      const count = await file.read(bytes, locator.offset);
      const path = untilNul(decode(bytes.subarray(0, count)));
      if (path !== '') candidates.push({ source: code, path });
    }
  }
  const name = untilNul(decodeUtf16Be(header.parentName));
  if (name !== '') candidates.push({ source: 'parent name', path: name });
  return candidates;
}

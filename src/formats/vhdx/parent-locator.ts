/**
 * The parent locator (MS-VHDX 2.6.2.6): which image is the parent, and where it may be.
 *
 * Invariant: a parent is accepted by id only (`acceptedIds`), never by path; a zero GUID never matches.
 * Paths are handed on as stored; translating and trying them is the chain's task.
 */
import { VhdkitError } from '../../base/errors.js';
import { NIL_GUID, normalizeGuid } from '../../base/guid.js';
import type { ParentCandidate, ParentLink } from '../disk-image.js';
import type { NewParentLink } from '../editable-image.js';
import { getGuid, setGuid, utf16, viewOf } from './binary.js';
import { vhdxCorrupt, vhdxUnsupported } from './defects.js';
import { MAX_LOCATOR_PAIRS, VHDX_LOCATOR_TYPE } from './layout.js';

const LOCATOR_HEADER = 20;
const ENTRY = 12;
/** The order in which the specification wants them tried. */
const PATH_KEYS = ['relative_path', 'volume_path', 'absolute_win32_path'];

/**
 * The key/value pairs of a locator item.
 * @param offset byte offset of the item in the file, for messages
 * @throws IMAGE_CORRUPT (VHDX_PARENT_LOCATOR_INVALID), UNSUPPORTED (another locator type)
 */
export function decodeParentLocator(bytes: Uint8Array, offset: number, path: string): Map<string, string> {
  const fail = (message: string, at: number): Error =>
    vhdxCorrupt('VHDX_PARENT_LOCATOR_INVALID', `the parent locator ${message}`, path, offset + at);
  if (bytes.length < LOCATOR_HEADER) throw fail(`has only ${bytes.length} bytes`, 0);
  const type = getGuid(bytes, 0);
  if (type !== VHDX_LOCATOR_TYPE) {
    throw vhdxUnsupported(
      'VHDX_PARENT_LOCATOR_TYPE_UNKNOWN',
      `parent locator type ${type} is not supported`,
      path,
      offset,
      'Only parents that are VHDX files are supported.',
    );
  }
  const view = viewOf(bytes);
  const count = view.getUint16(18, true);
  if (count > MAX_LOCATOR_PAIRS) throw fail(`claims ${count} pairs`, 18);
  if (LOCATOR_HEADER + count * ENTRY > bytes.length) throw fail(`is too short for ${count} pairs`, 18);
  const text = (from: number, length: number, at: number): string => {
    if (length % 2 !== 0 || from < LOCATOR_HEADER || from + length > bytes.length) {
      throw fail('has text outside itself', at);
    }
    return utf16(bytes.subarray(from, from + length));
  };
  const pairs = new Map<string, string>();
  for (let index = 0; index < count; index += 1) {
    const at = LOCATOR_HEADER + index * ENTRY;
    const key = text(view.getUint32(at, true), view.getUint16(at + 8, true), at);
    const value = text(view.getUint32(at + 4, true), view.getUint16(at + 10, true), at + 4);
    if (key === '') throw fail('has an empty key', at);
    if (pairs.has(key)) throw fail(`has the key '${key}' twice`, at);
    pairs.set(key, value);
  }
  return pairs;
}

/** The bytes of a locator item with these pairs. */
export function encodeParentLocator(pairs: ReadonlyMap<string, string>): Uint8Array {
  const texts = [...pairs].map(([key, value]) => [
    Buffer.from(key, 'utf16le'),
    Buffer.from(value, 'utf16le'),
  ]);
  const textLength = texts.flat().reduce((sum, text) => sum + text.length, 0);
  const bytes = new Uint8Array(LOCATOR_HEADER + pairs.size * ENTRY + textLength);
  const view = viewOf(bytes);
  setGuid(bytes, 0, VHDX_LOCATOR_TYPE);
  view.setUint16(18, pairs.size, true);
  let next = LOCATOR_HEADER + pairs.size * ENTRY;
  texts.forEach((pair, index) => {
    pair.forEach((text, part) => {
      const at = LOCATOR_HEADER + index * ENTRY;
      view.setUint32(at + part * 4, next, true);
      view.setUint16(at + 8 + part * 2, text.length, true);
      bytes.set(text, next);
      next += text.length;
    });
  });
  return bytes;
}

/**
 * What the locator says about the parent.
 * @throws IMAGE_CORRUPT when `parent_linkage` is missing or no GUID
 */
export function parentLinkOf(pairs: ReadonlyMap<string, string>, offset: number, path: string): ParentLink {
  const linkage = normalizeGuid(pairs.get('parent_linkage') ?? '');
  if (linkage === undefined) {
    const message = 'the parent locator does not say which parent it means (parent_linkage)';
    throw vhdxCorrupt('VHDX_PARENT_LOCATOR_INVALID', message, path, offset);
  }
  // Only used while a merge is under way; some writers leave a zero GUID or junk in it at other times.
  const linkage2 = normalizeGuid(pairs.get('parent_linkage2') ?? '');
  const acceptedIds = [linkage, linkage2].filter((id): id is string => id !== undefined && id !== NIL_GUID);
  const candidates: ParentCandidate[] = [];
  for (const source of PATH_KEYS) {
    const candidate = pairs.get(source)?.replace(/\0+$/, '');
    if (candidate) candidates.push({ source, path: candidate });
  }
  return { acceptedIds: [...new Set(acceptedIds)], candidates };
}

/** A drive or a share in the notation of Windows. */
const WINDOWS_ABSOLUTE = /^(?:[a-zA-Z]:[\\/]|\\\\)/;

/**
 * What a locator says about a parent, in the order that the specification lists the keys.
 *
 * Paths are written as Windows writes them whatever the host is (MS-VHDX 2.6.2.6.3): relative ones begin with
 * `.\` or `..\`, absolute ones with `\\?\`. An absolute POSIX path keeps its names and gets backslashes
 * (`\images\parent.vhdx`, the root of some drive): Windows looks there only when the relative path failed,
 * and libvhdi takes the parent's name from this key alone.
 * @throws INVALID_ARGUMENT when no path can be stored (POSIX names with backslashes)
 */
export function locatorPairs(link: NewParentLink): Map<string, string> {
  const [first, second] = link.ids;
  const pairs = new Map([['parent_linkage', `{${first}}`]]);
  if (second !== undefined) pairs.set('parent_linkage2', `{${second}}`);
  const isWindows = WINDOWS_ABSOLUTE.test(link.absolutePath);
  const relative = link.relativePath && withBackslashes(link.relativePath, isWindows);
  if (relative) pairs.set('relative_path', /^\.\.?\\/.test(relative) ? relative : `.\\${relative}`);
  const absolute = withBackslashes(link.absolutePath, isWindows);
  if (absolute) pairs.set('absolute_win32_path', isWindows ? extendedPath(absolute) : absolute);
  if (relative || absolute) return pairs;
  throw new VhdkitError('INVALID_ARGUMENT', `A VHDX can't name ${link.absolutePath} as its parent`, {
    operation: 'link parent',
    context: { path: link.absolutePath },
    hint: 'Give the parent a name without backslashes.',
  });
}

/** Undefined for a POSIX name with a backslash in it, which would come out as another path. */
function withBackslashes(path: string, isWindows: boolean): string | undefined {
  return !isWindows && path.includes('\\') ? undefined : path.replaceAll('/', '\\');
}

/** The form that is not limited in length: `\\?\C:\…`, `\\?\UNC\server\…`. */
function extendedPath(path: string): string {
  if (path.startsWith('\\\\?\\')) return path;
  return path.startsWith('\\\\') ? `\\\\?\\UNC${path.slice(1)}` : `\\\\?\\${path}`;
}

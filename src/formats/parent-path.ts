/**
 * From what a child says of its parent to paths worth trying on this machine. Pure.
 *
 * Locators were written on another machine more often than not: every one is tried as it stands, relative
 * to the child's folder, and at last by its bare name beside the child. A path alone never makes a parent;
 * the caller compares identities.
 */
import { posix, win32 } from 'node:path';
import type { ParentCandidate } from './disk-image.js';

export interface PathTry {
  path: string;
  /** The locator that led here. */
  source: string;
}

const WINDOWS_ABSOLUTE = /^(?:[a-zA-Z]:[\\/]|\\\\)/;

/** The last part of a path in either notation. */
export function parentBaseName(path: string): string {
  return win32.basename(path.replace(/^\\\\\?\\/, ''));
}

function fromUrl(text: string): string | undefined {
  if (!/^file:/i.test(text)) return undefined;
  try {
    return decodeURIComponent(new URL(text).pathname);
  } catch {
    return undefined;
  }
}

function expand(stored: string, folder: string, windows: boolean): string[] {
  const text = fromUrl(stored) ?? stored;
  if (text === '' || text.includes('\0')) return [];
  const native = windows ? win32 : posix;
  const tries: string[] = [];
  if (WINDOWS_ABSOLUTE.test(text)) {
    if (windows) tries.push(text);
  } else {
    const local = windows ? text : text.replaceAll('\\', '/');
    if (native.isAbsolute(local)) tries.push(local);
    tries.push(native.join(folder, local));
  }
  return tries;
}

/**
 * Where the child's first locator leads on this machine; undefined when it is in another system's notation.
 * A parent that is found elsewhere has moved.
 */
export function firstChoice(
  candidates: readonly ParentCandidate[],
  folder: string,
  windows: boolean,
): string | undefined {
  const [first] = candidates;
  return first && expand(first.path, folder, windows)[0];
}

/** Paths to try, in order, without repetition. `folder` is the child's. */
export function parentPaths(
  candidates: readonly ParentCandidate[],
  folder: string,
  windows: boolean,
): PathTry[] {
  const native = windows ? win32 : posix;
  const direct = candidates.flatMap((c) =>
    expand(c.path, folder, windows).map((path) => ({ path, source: c.source })),
  );
  const beside = candidates
    .map((c) => ({ name: parentBaseName(fromUrl(c.path) ?? c.path), source: c.source }))
    .filter(({ name }) => name !== '' && name !== '.' && name !== '..' && !name.includes('\0'))
    .map(({ name, source }) => ({ path: native.join(folder, name), source }));
  const seen = new Set<string>();
  return [...direct, ...beside].filter(({ path }) => !seen.has(path) && seen.add(path));
}

/**
 * Token sets in files: taken out of what `token read` made, and put where `token write` and the other
 * commands take them.
 *
 * A set's file has the set's bytes and nothing beside it. What auxiliary tokens need more room for (NAME.sums
 * beside a token file) is not in a set: who wants it used copies that file to the new name.
 */
import { writePrivateFile } from '../../io/private-file.js';
import { TokenSet } from '../../offload/token-set.js';
import type { Host } from '../host.js';
import { partsOfRanges } from './set-ranges.js';
import { assertNoTokenFile, readTokenSet } from './token-file.js';

/**
 * The set that a token file holds, whoever made it.
 * @throws TOKEN_INVALID (`malformed`), NOT_FOUND, PERMISSION_DENIED
 */
export async function loadTokenSet(host: Host, path: string): Promise<TokenSet> {
  const { set, ranges, auxiliary } = await readTokenSet(host, path);
  if (set) return set;
  const { parts, auxiliary: beside } = partsOfRanges(ranges, auxiliary);
  return TokenSet.of(parts, beside);
}

/**
 * Writes a set as a token file, readable for its owner only.
 * @throws ALREADY_EXISTS unless `force`, NOT_FOUND (the folder), PERMISSION_DENIED, NO_SPACE
 */
export async function saveTokenSet(
  host: Host,
  path: string,
  set: TokenSet,
  options: { force?: boolean } = {},
): Promise<void> {
  const { force = false } = options;
  await assertNoTokenFile(host, path, force);
  await writePrivateFile(path, set.toBytes(), force);
}

/**
 * What a set of tokens stands for, as extents.
 *
 * Invariants: all tokens are resolved before any of them is used, so that a set is used whole or refused
 * whole, and pinned until the end: neither expiry nor revocation stops what has begun, and kept data stays
 * readable because it is open. Behind a token's data there are zeros and never other bytes.
 */
import { VhdkitError } from '../../base/errors.js';
import { type DataExtent, pushExtent, type ZeroExtent } from '../../block/extent.js';
import type { TokenManager, TokenUse } from '../../offload/token-manager.js';
import { partOfToken } from '../../offload/token-reader.js';
import type { TokenRange } from './token-file.js';

export type TokenExtent = DataExtent | ZeroExtent;

/** The part of a token file's ranges that is asked for. */
export interface Selection {
  /** Within what the file stands for. Default 0. */
  tokenOffset?: number;
  /** Default: all there is. */
  length?: number;
}

/** The ranges clipped to the selection; offsets count from the selection's start. */
export interface Clipped extends TokenRange {
  /** Within the token. */
  tokenOffset: number;
}

export function select(
  ranges: readonly TokenRange[],
  { tokenOffset = 0, length }: Selection,
  path: string,
): Clipped[] {
  const last = ranges.at(-1);
  const available = last ? last.offset + last.length : 0;
  const endless = available === Number.MAX_SAFE_INTEGER;
  if (length === undefined && endless) {
    throw new VhdkitError(
      'INVALID_ARGUMENT',
      `${path} holds the zero token, which stands for any number of bytes`,
      {
        operation: 'use tokens',
        context: { path },
        hint: 'Say how many with --length.',
      },
    );
  }
  const end = length === undefined ? available : tokenOffset + length;
  if (tokenOffset > available || end > available) {
    throw new VhdkitError('OUT_OF_RANGE', `${path} stands for ${available} bytes`, {
      operation: 'use tokens',
      context: { path, offset: tokenOffset, length: end - tokenOffset, available },
      hint: 'Nothing was done. Correct --token-offset and --length; `vhdkit token show` tells the size.',
    });
  }
  const clipped: Clipped[] = [];
  for (const range of ranges) {
    const start = Math.max(range.offset, tokenOffset);
    const stop = Math.min(range.offset + range.length, end);
    if (start >= stop) continue;
    clipped.push({
      ...range,
      offset: start - tokenOffset,
      length: stop - start,
      tokenOffset: start - range.offset + (range.tokenOffset ?? 0),
    });
  }
  return clipped;
}

export interface TokenContent {
  readonly extents: readonly TokenExtent[];
  readonly length: number;
  /** @throws SOURCE_CHANGED when anything that was read is not what the tokens stand for any more */
  verifyUnchanged(): Promise<void>;
  release(): void;
}

/**
 * @param path of the token file, for messages
 * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, PERMISSION_DENIED (the data), OUT_OF_RANGE,
 *   INVALID_ARGUMENT
 */
export async function resolveContent(
  manager: TokenManager,
  ranges: readonly TokenRange[],
  selection: Selection,
  path: string,
): Promise<TokenContent> {
  const uses: TokenUse[] = [];
  const release = (): void => {
    for (const use of uses.splice(0)) use.end();
  };
  try {
    const clipped = select(ranges, selection, path);
    const extents: TokenExtent[] = [];
    for (const { token, tokenOffset, offset, length } of clipped) {
      const use = await manager.begin(token);
      uses.push(use);
      const { resolved } = use;
      for (let done = 0; done < length; ) {
        const part = partOfToken(resolved, tokenOffset + done, length - done);
        const place = { offset: offset + done, length: part.length };
        if (part.kind === 'zero') pushExtent<TokenExtent>(extents, { state: 'zero', ...place });
        else
          pushExtent<TokenExtent>(extents, {
            state: 'data',
            ...place,
            file: part.file,
            fileOffset: part.fileOffset,
          });
        done += part.length;
      }
    }
    const last = extents.at(-1);
    return {
      extents,
      length: last ? last.offset + last.length : 0,
      async verifyUnchanged() {
        for (const { token } of clipped) await manager.verifyUnchanged(token);
      },
      release,
    };
  } catch (error) {
    release();
    throw error;
  }
}

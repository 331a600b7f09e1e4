/**
 * Token sets as token files have them: ranges of tokens, and auxiliary tokens beside them. Pure.
 *
 * Of what several providers offer, the first token of ours is taken: all means of this package use the same
 * tokens. Auxiliary tokens of other shapes stay in the set and are left out here.
 */
import { VhdkitError } from '../../base/errors.js';
import { TOKEN_BYTES, Token } from '../../offload/token.js';
import { inspectToken, type TokenClaims } from '../../offload/token-codec.js';
import type { AuxiliaryToken, TokenSet, TokenSetPart } from '../../offload/token-set.js';

/** The name under which tokens of a token file go into a set: that of `localStack`. */
const LOCAL = 'local';
const ID_AT = 8;
const ID_END = 16;

interface SetRange {
  token: Token;
  claims: TokenClaims;
  offset: number;
  length: number;
  tokenOffset: number;
}

/** A token's kind as a set has it, by its ROD type: `rod-fffffff1`. */
function kindOf(token: Token): string {
  return `rod-${new DataView(token.toBytes().buffer).getUint32(0).toString(16)}`;
}

function rangeOf({ offset, length, choices }: TokenSetPart): SetRange | undefined {
  for (const { token, tokenOffset } of choices) {
    const claims = inspectToken(token);
    if (!claims || (claims.length !== undefined && tokenOffset + length > claims.length)) continue;
    return { token, claims, offset, length, tokenOffset };
  }
  return undefined;
}

/** @throws TOKEN_INVALID (`malformed`) when some of the set has no token of ours, or none that is so long */
export function rangesOfSet(set: TokenSet, path: string): { ranges: SetRange[]; auxiliary: Token[] } {
  const ranges = set.parts.map((part) => {
    const range = rangeOf(part);
    if (range) return range;
    throw new VhdkitError(
      'TOKEN_INVALID',
      `${path}: no token of ours for ${part.length} bytes from ${part.offset} on`,
      {
        operation: 'read token file',
        context: { path, reason: 'malformed', offset: part.offset, length: part.length },
        hint: 'Use the set with the stack of providers that it was made by.',
      },
    );
  });
  const auxiliary = new Map<string, Token>();
  for (const { bytes, kind } of set.auxiliary) {
    if (bytes.length !== TOKEN_BYTES) continue;
    const token = new Token(bytes);
    if (kind === kindOf(token)) auxiliary.set(Buffer.from(bytes).toString('latin1'), token);
  }
  return { ranges, auxiliary: [...auxiliary.values()] };
}

/** What a token file has, as parts of a set; an auxiliary token goes along with the token whose id it has. */
export function partsOfRanges(
  ranges: readonly (Omit<SetRange, 'tokenOffset'> & { tokenOffset?: number })[],
  auxiliary: readonly Token[],
): { parts: Omit<TokenSetPart, 'offset'>[]; auxiliary: AuxiliaryToken[] } {
  const parts = ranges.map(({ token, length, tokenOffset = 0 }) => ({
    length,
    choices: [{ provider: LOCAL, token, tokenOffset }],
  }));
  const beside = auxiliary.flatMap((token) => {
    const bytes = token.toBytes();
    const id = Buffer.from(bytes.subarray(ID_AT, ID_END)).toString('hex');
    return ranges
      .filter(({ claims }) => claims.id === id)
      .map(({ offset, length, tokenOffset = 0 }) => ({
        kind: kindOf(token),
        bytes,
        offset,
        length,
        tokenOffset,
      }));
  });
  return { parts, auxiliary: beside };
}

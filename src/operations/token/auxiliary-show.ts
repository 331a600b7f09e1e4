/**
 * What auxiliary tokens say of themselves, for `token show`. No secrets are in them: hashes and checksums stay
 * where they are, only their number is told.
 */
import {
  type AuxiliaryKind,
  decodeAuxiliary,
  primaryDigest,
} from '../../offload/auxiliary/auxiliary-codec.js';
import { blockCount } from '../../offload/auxiliary/block-grid.js';
import type { Token } from '../../offload/token.js';

export interface ShownAuxiliary {
  kind: AuxiliaryKind | 'unknown';
  /** `unknown`: of a kind that is passed on as it is. */
  state: 'valid' | 'forged' | 'foreign' | 'malformed' | 'unknown';
  /** The token that it goes with, by number in the file; null when that is not there or can't be told. */
  token: number | null;
  /** Bytes under one sum, how many sums, and whether they are in the .sums file; null where nobody can tell. */
  blockSize: number | null;
  sums: number | null;
  beside: boolean | null;
}

/** @param key the store's */
export function showAuxiliary(
  tokens: readonly Token[],
  primaries: readonly Token[],
  key: Uint8Array,
): ShownAuxiliary[] {
  const numbers = new Map<string, number>();
  for (const [index, token] of primaries.entries())
    numbers.set(Buffer.from(primaryDigest(token)).toString('hex'), index);
  return tokens.map((token) => {
    const decoded = decodeAuxiliary(token, key);
    const nothing = { token: null, blockSize: null, sums: null, beside: null };
    if (!decoded || decoded.kind === 'unknown') return { kind: 'unknown', state: 'unknown', ...nothing };
    if (decoded.kind === 'refused') return { kind: decoded.auxiliary, state: decoded.reason, ...nothing };
    const { fields } = decoded;
    return {
      kind: fields.kind,
      state: 'valid',
      token: numbers.get(Buffer.from(fields.primary).toString('hex')) ?? null,
      blockSize: fields.blockSize,
      sums: blockCount(fields),
      beside: fields.list === undefined,
    };
  });
}

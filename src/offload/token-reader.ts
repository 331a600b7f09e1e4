/**
 * Reading through a token, and what part of a request its data covers.
 *
 * Invariant: past the token's end, and past the end of a file that became shorter, there are zeros and
 * never other bytes.
 */
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { Token } from './token.js';
import type { ResolvedToken, TokenManager } from './token-manager.js';

/** The first part of a request that is of one kind. */
export type TokenPart =
  | { kind: 'zero'; length: number }
  | { kind: 'data'; file: RandomAccessFile; fileOffset: number; length: number };

/** `length` of the answer is at least 1 and at most what was asked (if that is at least 1). */
export function partOfToken(resolved: ResolvedToken, tokenOffset: number, length: number): TokenPart {
  if (resolved.kind === 'zero') return { kind: 'zero', length };
  const { file, offset, mode } = resolved;
  // A change-vulnerable token was cut at the end of the file, and the file is still the same.
  const stored =
    mode === 'change-vulnerable' ? resolved.length : Math.min(resolved.length, file.size() - offset);
  const rest = stored - tokenOffset;
  if (rest <= 0) return { kind: 'zero', length };
  return { kind: 'data', file, fileOffset: offset + tokenOffset, length: Math.min(length, rest) };
}

/** Fills the whole buffer. @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, IO_FAILED */
export async function readThroughToken(
  manager: TokenManager,
  token: Token,
  buffer: Uint8Array,
  tokenOffset: number,
): Promise<void> {
  await manager.use(token, async (resolved) => {
    const part = partOfToken(resolved, tokenOffset, buffer.length);
    const count =
      part.kind === 'data' ? await part.file.read(buffer.subarray(0, part.length), part.fileOffset) : 0;
    buffer.fill(0, count);
  });
}

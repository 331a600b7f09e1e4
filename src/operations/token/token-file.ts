/**
 * Token files: tokens of 512 bytes back to back, and a JSON file beside them that says which ranges they
 * stand for. Auxiliary tokens come behind the others; what they need more room for lies in a third file.
 *
 * Invariants: the second file is there when the tokens alone would not say it (more than one, or zeros, whose
 * token stands for any number of bytes). Neither names a file or a folder. What is read from them is checked
 * before it is used: ranges follow each other from 0 on, each within its token. Tokens are never read with the ranges
 * of others, whenever one file replaces the other and whatever crashes then: the former tokens go first, the new ones
 * come last, and a reader looks whether they still are what he read.
 *
 * The tokens of one file are a set: who does not look inside passes it on whole; who does may take tokens
 * out and order the ranges anew. A file may also be the bytes of a TokenSet: then it is all in one.
 */
import { VhdkitError } from '../../base/errors.js';
import type { PendingFile } from '../../io/file-system.js';
import { fileExists, preparePrivateFile, removeDurably, removeIfThere } from '../../io/private-file.js';
import type { FileFingerprint } from '../../io/random-access-file.js';
import { isAuxiliary } from '../../offload/auxiliary/auxiliary-codec.js';
import type { TokenStore } from '../../offload/store/token-store.js';
import { TOKEN_BYTES, Token } from '../../offload/token.js';
import { inspectToken, isOfUnknownType, type TokenClaims } from '../../offload/token-codec.js';
import { sameContent } from '../../offload/token-fingerprint.js';
import { TokenSet } from '../../offload/token-set.js';
import { isTokenSet } from '../../offload/token-set-codec.js';
import type { Host } from '../host.js';
import { countingRefusal } from './refusals.js';
import { rangesOfSet } from './set-ranges.js';

/** Most tokens in one file: 32 MiB of them. */
export const MAX_TOKENS = 65_536;
/** Auxiliary tokens per token. */
const MAX_AUXILIARY = 2;
/** A line per range, with room to spare. */
const MAX_SIDECAR_BYTES = MAX_TOKENS * 128;
const SIDECAR_VERSION = 1;
/** How often a file is read that others replace meanwhile. */
const ATTEMPTS = 5;

/** A range of what a token file stands for. */
export interface TokenRange {
  token: Token;
  /** What the token says of itself. */
  claims: TokenClaims;
  /** Within what the whole file stands for; ranges follow each other. */
  offset: number;
  length: number;
  /** Where the range begins within its token; 0 if absent. */
  tokenOffset?: number;
}

function sidecarPath(path: string): string {
  return `${path}.json`;
}

/** The sums of the data, where they are too many for auxiliary tokens. */
export function sumsPath(path: string): string {
  return `${path}.sums`;
}

const HINTS = {
  malformed:
    'Token files are made by `vhdkit token read`; copy them as they are, with the .json file beside them.',
  unsupported:
    'Use the program that made it, or a newer vhdkit; or read the source anew for a token of ours.',
};

function refused(path: string, what: string, reason: keyof typeof HINTS): VhdkitError {
  return new VhdkitError('TOKEN_INVALID', `${path}: ${what}`, {
    operation: 'read token file',
    context: { path, reason },
    hint: HINTS[reason],
  });
}

function malformed(path: string, what: string): VhdkitError {
  return refused(path, what, 'malformed');
}

function beingReplaced(path: string): VhdkitError {
  return new VhdkitError('IN_USE', `${path} is replaced again and again while it is read`, {
    operation: 'read token file',
    context: { path },
    hint: 'Try again when whoever writes it has finished.',
  });
}

/** Refuses before any work is done what writing would refuse. @throws ALREADY_EXISTS */
export async function assertNoTokenFile(host: Host, path: string, force: boolean): Promise<void> {
  if (force) return;
  for (const name of [path, sidecarPath(path), sumsPath(path)]) {
    if ((await host.fileSystem.kind(name)) !== 'absent') throw fileExists(name);
  }
}

/** Tokens about the same data, and what they keep beside them. */
export interface AuxiliaryPart {
  tokens: readonly Token[];
  sums: PendingFile | undefined;
}

/** Writes the tokens; answers the path of the second file, if there is one. */
export async function writeTokenFile(
  host: Host,
  path: string,
  ranges: readonly { token: Token; offset: number; length: number }[],
  force: boolean,
  auxiliary: AuxiliaryPart = { tokens: [], sums: undefined },
): Promise<string | undefined> {
  if (auxiliary.sums) await auxiliary.sums.publish();
  else if (force) await removeIfThere(sumsPath(path));
  try {
    return await writeRanges(host, path, ranges, force, auxiliary.tokens);
  } catch (error) {
    if (auxiliary.sums) await removeIfThere(sumsPath(path));
    throw error;
  }
}

async function writeRanges(
  host: Host,
  path: string,
  ranges: readonly { token: Token; offset: number; length: number }[],
  force: boolean,
  auxiliary: readonly Token[],
): Promise<string | undefined> {
  const beside = sidecarPath(path);
  const [only, second] = ranges;
  const alone = only && !second && inspectToken(only.token)?.mode !== 'zero';
  const tokens = [...ranges.map(({ token }) => token), ...auxiliary];
  const pending: PendingFile[] = [];
  let isBeside = false;
  try {
    if (!alone) pending.push(await preparePrivateFile(beside, Buffer.from(sidecarOf(ranges)), force));
    pending.push(
      await preparePrivateFile(path, Buffer.concat(tokens.map((token) => token.toBytes())), force),
    );
    if (force && (!alone || (await host.fileSystem.kind(beside)) !== 'absent')) {
      await removeDurably(path);
      if (alone) await removeDurably(beside);
    }
    for (const file of pending) {
      await file.publish();
      isBeside = !alone;
    }
  } catch (error) {
    for (const file of pending) await file.discard();
    if (isBeside) await removeIfThere(beside);
    throw error;
  }
  return alone ? undefined : beside;
}

function sidecarOf(ranges: readonly { offset: number; length: number }[]): string {
  const listed = ranges.map(({ offset, length }, token) => ({ token, offset, length }));
  const last = ranges.at(-1);
  const length = last ? last.offset + last.length : 0;
  const head = `{"schemaVersion": ${SIDECAR_VERSION}, "length": ${length}, "ranges": [`;
  return `${head}\n${listed.map((range) => JSON.stringify(range)).join(',\n')}\n]}\n`;
}

/** A file's bytes, and what tells it from one that replaces it. */
async function readWhole(
  host: Host,
  path: string,
  limit: number,
): Promise<{ bytes: Uint8Array; print: FileFingerprint | undefined }> {
  const file = await host.fileSystem.open(path);
  try {
    const size = file.size();
    if (size > limit) throw malformed(path, `${size} bytes are more than a token file has`);
    const print = file.fingerprint();
    const bytes = new Uint8Array(size);
    return { bytes: bytes.subarray(0, await file.read(bytes, 0)), print };
  } finally {
    await file.close();
  }
}

/** Is the file still the one that was read? */
async function isStill(host: Host, path: string, print: FileFingerprint | undefined): Promise<boolean> {
  const file = await host.fileSystem.open(path);
  try {
    const now = file.fingerprint();
    return print === now || (print !== undefined && now !== undefined && sameContent(print, now));
  } finally {
    await file.close();
  }
}

/** The tokens of a file: those that stand for data, in order, and what goes with them. */
interface FileTokens {
  tokens: { token: Token; claims: TokenClaims }[];
  auxiliary: Token[];
  /** Of a file that is a token set. */
  set?: { whole: TokenSet; ranges: TokenRange[] };
  print?: FileFingerprint | undefined;
}

/** The tokens of a set, each once. */
function tokensOfSet(path: string, bytes: Uint8Array): FileTokens {
  const whole = TokenSet.fromBytes(bytes);
  const { ranges, auxiliary } = rangesOfSet(whole, path);
  if (ranges.length === 0) throw malformed(path, 'it stands for nothing');
  const tokens = new Map(ranges.map(({ token, claims }) => [token, { token, claims }]));
  return { tokens: [...tokens.values()], auxiliary, set: { whole, ranges } };
}

async function readAll(host: Host, path: string): Promise<FileTokens> {
  const { bytes, print } = await readWhole(host, path, (1 + MAX_AUXILIARY) * MAX_TOKENS * TOKEN_BYTES);
  if (isTokenSet(bytes)) return tokensOfSet(path, bytes);
  if (bytes.length === 0 || bytes.length % TOKEN_BYTES !== 0) {
    throw malformed(path, `it has ${bytes.length} bytes, but tokens have ${TOKEN_BYTES} each`);
  }
  const [tokens, auxiliary]: [FileTokens['tokens'], Token[]] = [[], []];
  for (let at = 0; at < bytes.length; at += TOKEN_BYTES) {
    const token = new Token(bytes.subarray(at, at + TOKEN_BYTES));
    if (isAuxiliary(token)) {
      auxiliary.push(token);
      continue;
    }
    const claims = inspectToken(token);
    // Nobody ever made a token for no bytes, or for more than a disk can have.
    const sound = claims && (claims.mode === 'zero' || (claims.length ?? 0) > 0);
    if (!sound && isOfUnknownType(token))
      throw refused(path, `the token at ${at} is of a type that this version does not know`, 'unsupported');
    if (!sound) throw malformed(path, `the ${TOKEN_BYTES} bytes from ${at} on are no token`);
    tokens.push({ token, claims });
  }
  if (tokens.length === 0 || tokens.length > MAX_TOKENS) throw malformed(path, 'it stands for nothing');
  return { tokens, auxiliary, print };
}

/** The tokens that stand for data, in order. @throws TOKEN_INVALID (`malformed`, `unsupported`), NOT_FOUND, PERMISSION_DENIED */
export async function readTokens(host: Host, path: string): Promise<FileTokens['tokens']> {
  return (await readAll(host, path)).tokens;
}

/** What a token file has in it. */
interface FileContent {
  /** What it stands for. A zero token alone stands for any number of bytes. */
  ranges: TokenRange[];
  /** The tokens as the file has them. */
  primaries: Token[];
  /** Known or not, sound or not. */
  auxiliary: Token[];
  /** Of a file that is a token set. */
  set?: TokenSet;
}

/**
 * What a token file stands for, for those who use it: one that is no good counts in the store as refused.
 * @throws TOKEN_INVALID (`malformed`, `unsupported`), NOT_FOUND, PERMISSION_DENIED
 */
export async function takeTokens(host: Host, path: string, store: TokenStore): Promise<FileContent> {
  return countingRefusal(store, () => readTokenSet(host, path));
}

/** The same for those who only look. */
export async function readTokenSet(host: Host, path: string): Promise<FileContent> {
  for (let attempt = 1; ; attempt += 1) {
    const { tokens, auxiliary, set, print } = await readAll(host, path);
    const primaries = tokens.map(({ token }) => token);
    if (set) return { ranges: set.ranges, primaries, auxiliary, set: set.whole };
    try {
      const ranges = await readRanges(host, path, tokens);
      if (await isStill(host, path, print)) return { ranges, primaries, auxiliary };
    } catch (error) {
      if (await isStill(host, path, print)) throw error;
    }
    if (attempt === ATTEMPTS) throw beingReplaced(path);
  }
}

async function readRanges(host: Host, path: string, tokens: FileTokens['tokens']): Promise<TokenRange[]> {
  const beside = sidecarPath(path);
  if ((await host.fileSystem.kind(beside)) === 'file') {
    const { bytes } = await readWhole(host, beside, MAX_SIDECAR_BYTES);
    const text = Buffer.from(bytes).toString('utf8');
    return rangesOf(beside, text, tokens);
  }
  const ranges: TokenRange[] = [];
  let offset = 0;
  for (const { token, claims } of tokens) {
    const { length = tokens.length === 1 ? Number.MAX_SAFE_INTEGER : undefined } = claims;
    if (length === undefined || !Number.isSafeInteger(offset + length)) {
      throw malformed(path, `the file ${beside} is missing, which says how long its zeros are`);
    }
    ranges.push({ token, claims, offset, length });
    offset += length;
  }
  return ranges;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function rangesOf(
  path: string,
  text: string,
  tokens: readonly { token: Token; claims: TokenClaims }[],
): TokenRange[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw malformed(path, 'it is not JSON');
  }
  const { schemaVersion, ranges } = (document ?? {}) as Record<string, unknown>;
  if (schemaVersion !== SIDECAR_VERSION) throw malformed(path, 'it is of another version');
  if (!Array.isArray(ranges) || ranges.length === 0 || ranges.length > MAX_TOKENS) {
    throw malformed(path, 'it lists no ranges');
  }
  let end = 0;
  return ranges.map((entry: unknown) => {
    const { token: index, offset, length, tokenOffset = 0 } = (entry ?? {}) as Record<string, unknown>;
    const found = isSize(index) ? tokens[index] : undefined;
    if (!found || offset !== end || !isSize(length) || !Number.isSafeInteger(end + length)) {
      throw malformed(path, `its ranges do not follow each other at ${end}`);
    }
    if (!isSize(tokenOffset)) throw malformed(path, `the range at ${end} begins nowhere in its token`);
    if (found.claims.length !== undefined && tokenOffset + length > found.claims.length) {
      throw malformed(path, `the range at ${end} is longer than its token`);
    }
    end += length;
    return { ...found, offset, length, tokenOffset };
  });
}

/** The `token` commands as text. Long lists are cut: `--json` has them whole. */
import type { ShownAuxiliary } from '../../operations/token/auxiliary-show.js';
import type { ShownLimits } from '../../operations/token/limits.js';
import type { TokenReadResult } from '../../operations/token/read.js';
import type { TokenRevokeResult } from '../../operations/token/revoke.js';
import type { ShownToken, TokenLife, TokenListResult, TokenShowResult } from '../../operations/token/show.js';
import type { TokenVerifyResult, Verified } from '../../operations/token/verify.js';
import type { TokenWriteResult } from '../../operations/token/write.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, rateText, sizeText } from './text.js';

const MOST_LINES = 50;

function timeText(time: number): string {
  return `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

function cut(lines: string[]): string[] {
  if (lines.length <= MOST_LINES) return lines;
  return [...lines.slice(0, MOST_LINES), `  … and ${lines.length - MOST_LINES} more (--json has all)`];
}

export function renderTokenRead(result: TokenReadResult, style: Style): string[] {
  const { path, output, ranges, offset, length, mode, ttl, expires, tokens, auxiliary, hashBlock, sums } =
    result;
  const fields: Field[] = [
    ['range', `${sizeText(length)} from offset ${offset} on`],
    ['mode', mode],
    ['ranges', ranges === null ? undefined : printable(ranges)],
    ['beside', auxiliary > 0 ? count(auxiliary, 'auxiliary token') : undefined],
    ['hashed', hashBlock === null ? undefined : `in blocks of ${sizeText(hashBlock)}`],
    ['sums', sums === null ? undefined : printable(sums)],
    ['unused', `void after ${durationText(ttl)}`],
    ['expires', expires === null ? undefined : timeText(expires)],
    ['priority', result.priority === 0 ? undefined : String(result.priority)],
    ['held', result.held ? 'by this process, as long as it runs' : undefined],
  ];
  const source = style.bold(printable(path));
  const head = `Wrote ${count(tokens.length, 'token')} for ${source} to ${style.bold(printable(output))}`;
  return [head, ...fieldLines(fields, style)];
}

function some(bytes: number): string | undefined {
  return bytes > 0 ? sizeText(bytes) : undefined;
}

function verifiedText({ checked, unchecked }: Verified): string {
  const rest = unchecked > 0 ? `, nothing known of ${sizeText(unchecked)}` : '';
  return `${sizeText(checked)} as the checksums say${rest}`;
}

export function renderTokenVerify(result: TokenVerifyResult, style: Style): string[] {
  const { target, offset, length, verified, elapsedMs } = result;
  const where = `${style.bold(printable(target))} at offset ${offset}`;
  const fields: Field[] = [
    ['verified', verifiedText(verified)],
    ['time', durationText(elapsedMs)],
  ];
  return [`Verified ${sizeText(length)} of ${where}`, ...fieldLines(fields, style)];
}

export function renderTokenWrite(result: TokenWriteResult, style: Style): string[] {
  const { bytes, dryRun, target, format, type, offset, length, elapsedMs, verified, reused } = result;
  const to = dryRun ? 'to ' : '';
  const rate = rateText(bytes.shared + bytes.kernelCopied + bytes.buffered, elapsedMs);
  const fields: Field[] = [
    [dryRun ? 'to share' : 'shared', some(bytes.shared)],
    [dryRun ? 'to copy in kernel' : 'copied in kernel', some(bytes.kernelCopied)],
    [dryRun ? 'to read and write' : 'read and written', some(bytes.buffered)],
    [`${to}zero`, some(bytes.zeroed)],
    ['found elsewhere', reused === null ? undefined : sizeText(reused)],
    ['verified', verified ? verifiedText(verified) : undefined],
    ['time', dryRun ? undefined : `${durationText(elapsedMs)}${rate ? `, ${rate}` : ''}`],
  ];
  const where = `${style.bold(printable(target))} (${format}, ${type}) at offset ${offset}`;
  return [
    `${dryRun ? 'Would write' : 'Wrote'} ${sizeText(length)} to ${where}`,
    ...fieldLines(fields, style),
  ];
}

function stateText(state: string, style: Style): string {
  return state === 'valid' ? style.green(state) : style.red(state);
}

const LIMITS: Record<string, string> = { tokens: 'tokens', kept: 'kept storage', memory: 'memory' };

/** What else is to be said of a token, after how it stands. */
function remarks({ priority, usedUntil, owner, limit }: TokenLife): string {
  const texts = [
    limit === null ? '' : `limit of ${LIMITS[limit] ?? printable(limit)}`,
    usedUntil === null ? '' : 'in use',
    owner === null ? '' : `held by process ${owner.pid}`,
    priority === 0 ? '' : `priority ${priority}`,
  ];
  return texts.flatMap((text) => (text ? [`, ${text}`] : [])).join('');
}

function lifeFields(life: TokenLife): Field[] {
  const { source, sourceOffset, created, due, expires, keptBytes, priority, usedUntil, owner } = life;
  return [
    ['priority', priority === 0 ? undefined : String(priority)],
    ['in use', usedUntil === null ? undefined : `until ${timeText(usedUntil)} at least`],
    ['held by', owner === null ? undefined : `process ${owner.pid}`],
    ['source', `${printable(source)} at ${sourceOffset}`],
    ['made', timeText(created)],
    ['void if unused', timeText(due)],
    ['expires', expires === null ? undefined : timeText(expires)],
    ['kept', keptBytes === null ? undefined : sizeText(keptBytes)],
  ];
}

function shownLines({ id, mode, offset, length, state, creator, life }: ShownToken, style: Style): string[] {
  const size = length === null ? 'any number of bytes' : sizeText(length);
  const fields: Field[] = [['store', creator ?? undefined], ...(life ? lifeFields(life) : [])];
  const head = `${style.bold(id ?? 'zeros')} ${mode}, ${size} at ${offset}: ${stateText(state, style)}`;
  return fields.some(([, value]) => value !== undefined) ? [head, ...fieldLines(fields, style)] : [head];
}

function auxiliaryText(
  { kind, state, token, blockSize, sums, beside }: ShownAuxiliary,
  style: Style,
): string {
  const what =
    blockSize === null
      ? ''
      : ` ${count(sums ?? 0, 'sum')} of ${sizeText(blockSize)} each${beside ? ', in the .sums file' : ''}`;
  const whose = token === null ? '' : ` for token ${token},`;
  return `${style.bold(kind)}${whose}${what}: ${stateText(state, style)}`;
}

export function renderTokenShow(result: TokenShowResult, style: Style): string[] {
  const { path, length, tokens, auxiliary } = result;
  const size = length === null ? 'any number of bytes' : sizeText(length);
  const head = `${style.bold(printable(path))}: ${count(tokens.length, 'token')} for ${size}`;
  const others = auxiliary.map((token) => auxiliaryText(token, style));
  return [...cut([head, ...tokens.flatMap((token) => shownLines(token, style))]), ...cut(others)];
}

export function renderTokenList(result: TokenListResult, style: Style): string[] {
  const { tokens, limits, keptBytes, refusals } = result;
  const lines = tokens.map((token) => {
    const { id, mode, state, length, source, due, owner } = token;
    const until = state === 'valid' && !owner ? ` until ${timeText(due)}` : '';
    const what = `${style.bold(id)} ${mode}, ${sizeText(length)} of ${printable(source)}`;
    return `${what}: ${stateText(state, style)}${until}${remarks(token)}`;
  });
  const refused = Object.entries(refusals).map(([reason, number]) => `${printable(reason)} ${number}`);
  return [
    ...(lines.length > 0 ? cut(lines) : ['No tokens']),
    ...(keptBytes > 0 ? [`kept: ${sizeText(keptBytes)}`] : []),
    ...limitLines(limits),
    ...(refused.length > 0 ? [`refused: ${refused.join(', ')}`] : []),
  ];
}

/** What is limited, and how much of it is used. */
function limitLines({ tokens, keptBytes, memory }: ShownLimits): string[] {
  const parts = [
    tokens.limit === null ? '' : `${tokens.used} of ${count(tokens.limit, 'token')}`,
    keptBytes.limit === null ? '' : `${sizeText(keptBytes.used)} of ${sizeText(keptBytes.limit)} kept`,
    memory.limit === null ? '' : `${sizeText(memory.limit)} of memory for each process`,
  ].filter((part) => part !== '');
  return parts.length > 0 ? [`limits: ${parts.join(', ')}`] : [];
}

export function renderTokenLimits({ tokens, keptBytes, memory }: ShownLimits, style: Style): string[] {
  const fields: Field[] = [
    ['tokens', `${tokens.used} of ${tokens.limit ?? 'any number'}`],
    [
      'kept',
      `${sizeText(keptBytes.used)} of ${keptBytes.limit === null ? 'any size' : sizeText(keptBytes.limit)}`,
    ],
    ['memory', `${memory.limit === null ? '32 MiB (not set)' : sizeText(memory.limit)} for each process`],
  ];
  return [style.bold('Limits of the token store'), ...fieldLines(fields, style)];
}

export function renderTokenRevoke({ revoked, leaving, ended }: TokenRevokeResult, style: Style): string[] {
  return [
    `Revoked ${style.bold(count(revoked.length, 'token'))}`,
    ...(leaving.length > 0
      ? [`  ${count(leaving.length, 'token')} in use, revoked when no longer used`]
      : []),
    ...(ended.length > 0 ? [`  the life of ${count(ended.length, 'other token')} was over before`] : []),
  ];
}

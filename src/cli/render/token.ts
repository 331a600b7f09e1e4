/** The `token` commands as text. Long lists are cut: `--json` has them whole. */
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

function lifeFields({ source, sourceOffset, created, due, expires, keptBytes }: TokenLife): Field[] {
  return [
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

export function renderTokenShow(result: TokenShowResult, style: Style): string[] {
  const { path, length, tokens } = result;
  const size = length === null ? 'any number of bytes' : sizeText(length);
  const head = `${style.bold(printable(path))}: ${count(tokens.length, 'token')} for ${size}`;
  return cut([head, ...tokens.flatMap((token) => shownLines(token, style))]);
}

export function renderTokenList(result: TokenListResult, style: Style): string[] {
  const { tokens, keptBytes, refusals } = result;
  const lines = tokens.map(({ id, mode, state, length, source, due }) => {
    const until = state === 'valid' ? ` until ${timeText(due)}` : '';
    return `${style.bold(id)} ${mode}, ${sizeText(length)} of ${printable(source)}: ${stateText(state, style)}${until}`;
  });
  const refused = Object.entries(refusals).map(([reason, number]) => `${printable(reason)} ${number}`);
  return [
    ...(lines.length > 0 ? cut(lines) : ['No tokens']),
    ...(keptBytes > 0 ? [`kept: ${sizeText(keptBytes)}`] : []),
    ...(refused.length > 0 ? [`refused: ${refused.join(', ')}`] : []),
  ];
}

export function renderTokenRevoke({ revoked, ended }: TokenRevokeResult, style: Style): string[] {
  return [
    `Revoked ${style.bold(count(revoked.length, 'token'))}`,
    ...(ended.length > 0 ? [`  the life of ${count(ended.length, 'other token')} was over before`] : []),
  ];
}

/** `convert` as text: what was made, and how its bytes got there. */
import type { ConvertResult } from '../../operations/convert.js';
import { planFields } from './plan.js';
import { printable, type Style } from './style.js';
import { durationText, type Field, fieldLines, rateText, sizeText } from './text.js';

function some(bytes: number): string | undefined {
  return bytes > 0 ? sizeText(bytes) : undefined;
}

function doneFields({ bytes, fileSize }: ConvertResult): Field[] {
  return [
    ['file size', sizeText(fileSize)],
    ['shared', some(bytes.shared)],
    ['copied in kernel', some(bytes.kernelCopied)],
    ['read and written', some(bytes.buffered)],
    ['zeros', some(bytes.zeroed)],
  ];
}

function resumedText({ resumed }: ConvertResult): string | undefined {
  if (!resumed) return undefined;
  if (resumed.position > 0) return `from ${sizeText(resumed.position)} on`;
  return resumed.reason ? `no, started over: ${resumed.reason}` : 'no, nothing was left to go on with';
}

function reblockedText({ reblocked }: ConvertResult): string | undefined {
  if (!reblocked) return undefined;
  const { table, from, to, partitions } = reblocked;
  return `${table} rewritten from ${from} to ${to}-byte sectors (${partitions} partition${partitions === 1 ? '' : 's'})`;
}

function verifiedText({ verified }: ConvertResult): string | undefined {
  if (!verified) return undefined;
  const cache = verified.cacheDropped ? '' : ' (possibly from memory)';
  return `read back with ${verified.reader}${cache}, equal to the source`;
}

export function renderConvert(result: ConvertResult, style: Style): string[] {
  const { dryRun, bytes } = result;
  const source = `${style.bold(printable(result.source))} (${result.from})`;
  const target = `${style.bold(printable(result.target))} (${result.to}, ${result.type})`;
  const rate = rateText(bytes.shared + bytes.kernelCopied + bytes.buffered, result.elapsedMs);
  const time = `${durationText(result.elapsedMs)}${rate ? `, ${rate}` : ''}`;
  const fields: Field[] = [
    ['virtual size', sizeText(result.virtualSize)],
    ['partition table', reblockedText(result)],
    ...(dryRun ? planFields(result) : doneFields(result)),
    ['resumed', resumedText(result)],
    ['verified', verifiedText(result)],
    ['sha256', result.sha256],
    ['time', dryRun ? undefined : time],
  ];
  const verb = dryRun ? 'Would convert' : 'Converted';
  return [`${verb} ${source} to ${target}`, ...fieldLines(fields, style)];
}

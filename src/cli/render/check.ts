/** `check` as text: one line per finding, and the verdict. */
import type { DroppedEntry } from '../../formats/repair.js';
import type { CheckFinding, CheckResult } from '../../operations/check.js';
import type { RepairResult } from '../../operations/repair.js';
import { printable, type Style } from './style.js';

function findingLine(finding: CheckFinding, result: CheckResult, style: Style): string {
  const { severity, code, offset, message, path, hint, source } = finding;
  const paint = severity === 'error' ? style.red : severity === 'warning' ? style.yellow : style.cyan;
  const where = [path === result.path ? '' : ` in ${path}`, offset === undefined ? '' : ` at ${offset}`];
  const reason = finding.reason === undefined ? '' : ` ${finding.reason}`;
  const origin = source === undefined ? '' : ` ${style.dim(`[${printable(source)}]`)}`;
  const text = printable(`${message.replace(/\.$/, '')}.${reason} ${hint}`);
  return `${paint(severity)} ${code}${printable(where.join(''))}: ${text}${origin}`;
}

function verdictLine(result: CheckResult, style: Style): string {
  const path = printable(result.path);
  const purpose = result.profile ? ` for ${result.profile}` : '';
  switch (result.verdict) {
    case 'clean':
      return style.green(`${path}: no errors${purpose}`);
    case 'leaks':
      return style.cyan(`${path}: no errors${purpose}, but space that nothing uses`);
    case 'corrupt':
      return style.red(`${path}: ${result.profile ? `not fit${purpose}` : 'damaged'}`);
  }
}

export function renderCheck(result: CheckResult, style: Style): string[] {
  return [
    ...result.findings.map((finding) => findingLine(finding, result, style)),
    verdictLine(result, style),
  ];
}

function droppedLine(entry: DroppedEntry, verb: string, style: Style): string {
  const { block, diskOffset, length, entryOffset, reason, defect } = entry;
  const what = `block ${block} (disk ${diskOffset}, ${length} bytes)`;
  const was = `it was ${entry.entry} at ${entryOffset}, for ${entry.fileOffset} in the file`;
  return `${style.yellow(verb)} ${defect}: ${printable(`${what}: ${reason}; ${was}`)}`;
}

/** What was repaired, what was dropped, what is left, and where the old bytes are. */
export function renderRepair(result: RepairResult, style: Style): string[] {
  const { repaired, dropped, droppedCount, refused, children, backup, dryRun } = result;
  const verb = style.green(dryRun ? 'would repair' : 'repaired');
  const unlisted = droppedCount - dropped.length;
  const rest = dryRun ? result.findings.filter((finding) => !repaired.includes(finding)) : result.findings;
  return [
    ...repaired.map(({ code, message, offset }) => {
      const where = offset === undefined ? '' : ` at ${offset}`;
      return `${verb} ${code}${where}: ${printable(message)}`;
    }),
    ...dropped.map((entry) => droppedLine(entry, dryRun ? 'would drop' : 'dropped', style)),
    ...(unlisted > 0 ? [`and ${unlisted} more entries`] : []),
    ...refused.map((reason) => `${style.yellow('left alone')}: ${printable(reason)}`),
    ...children.map(
      (path) => `${style.yellow('note')}: ${printable(path)} depends on it and shows the same gaps`,
    ),
    ...(backup === null ? [] : [`The old bytes are in ${printable(backup)}; --undo puts them back.`]),
    ...rest.map((finding) => findingLine(finding, result, style)),
    verdictLine(result, style),
  ];
}

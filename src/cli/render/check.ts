/** `check` as text: one line per finding, and the verdict. */
import type { CheckFinding, CheckResult } from '../../operations/check.js';
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

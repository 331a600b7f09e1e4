/**
 * Pieces of text that several renderers use: sizes, durations, aligned fields.
 */
import { formatSize } from '../../base/bytes.js';
import type { Finding } from '../../formats/finding.js';
import { printable, type Style } from './style.js';

/** `64 GiB (68719476736 bytes)`; just `512 B` where both are the same. */
export function sizeText(bytes: number): string {
  return bytes < 1024 ? formatSize(bytes) : `${formatSize(bytes)} (${bytes} bytes)`;
}

/** `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`. */
export function durationText(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${String(whole % 60).padStart(2, '0')} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** `350 MiB/s`; undefined when there was hardly anything to measure. */
export function rateText(bytes: number, milliseconds: number): string | undefined {
  return bytes > 0 && milliseconds >= 1
    ? `${formatSize(Math.round((bytes * 1000) / milliseconds))}/s`
    : undefined;
}

/** A field of a result; left out when the value is undefined. */
export type Field = readonly [name: string, value: string | undefined];

/** Lines `  name   value`, values aligned. */
export function fieldLines(fields: readonly Field[], style: Style): string[] {
  const shown = fields.filter((field): field is [string, string] => field[1] !== undefined);
  const width = Math.max(...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `  ${style.dim(name.padEnd(width))}  ${value}`);
}

/** One line per finding: `warning VHDX_HEADER_INVALID at 65536: message`. */
export function findingLines(findings: readonly Finding[], style: Style): string[] {
  return findings.map(({ severity, code, offset, message }) => {
    const paint = severity === 'error' ? style.red : severity === 'warning' ? style.yellow : style.cyan;
    const where = offset === undefined ? '' : ` at ${offset}`;
    return `${paint(severity)} ${code}${where}: ${printable(message)}`;
  });
}

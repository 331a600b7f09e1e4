/**
 * Sizes, rounding and the text form of sizes.
 *
 * Invariant: byte counts are `number`, always safe integers (64 TiB is 2^46). On-disk u64 values pass
 * through `toSafeNumber` in the codec that reads them.
 */
import { VhdkitError } from './errors.js';

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

export function roundUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + unit - rest;
}

export function roundDown(value: number, unit: number): number {
  return value - (value % unit);
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

/** The value as a number, or undefined when it is not exactly representable (above 2^53 − 1). */
export function toSafeNumber(value: bigint): number | undefined {
  return value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}

const UNITS: Record<string, number> = { '': 1, b: 1, k: KiB, m: MiB, g: GiB, t: TiB };

/**
 * Parses `512`, `64K`, `10M`, `2G`, `1T` (binary units; `KiB`, `KB` and lower case too; fractions such as
 * `1.5G` when they give whole bytes).
 * @throws INVALID_ARGUMENT
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?$/i.exec(text.trim());
  const unit = match ? UNITS[(match[2] ?? '').toLowerCase()] : undefined;
  const value = match && unit !== undefined ? Number(match[1]) * unit : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw new VhdkitError('INVALID_ARGUMENT', `Not a size: '${text}'`, {
      operation: 'parse size',
      hint: 'Write bytes or a binary unit: 512, 64K, 10M, 2G, 1T.',
    });
  }
  return value;
}

const NAMES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Text for people: `10 MiB`, `1.5 GiB`, `999 B`. */
export function formatSize(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < NAMES.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const text = Number.isInteger(value) ? String(value) : value.toFixed(value < 10 ? 2 : 1);
  return `${text} ${NAMES[unit]}`;
}

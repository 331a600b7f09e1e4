/**
 * Flags that the token commands share, and how durations become numbers.
 */
import { Flags, parseBytes } from './flags.js';
import { UsageError } from './usage-error.js';

const UNITS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

async function parseDuration(text: string): Promise<number> {
  const [, number, unit] = /^(\d{1,9}(?:\.\d{1,3})?)([smhd])$/.exec(text) ?? [];
  const factor = unit === undefined ? undefined : UNITS[unit];
  if (number !== undefined && factor !== undefined) return Math.round(Number(number) * factor);
  throw new UsageError(
    `Not a duration: '${text}'`,
    'Write seconds, minutes, hours or days: 90s, 10m, 2h, 7d.',
  );
}

export const duration = Flags.custom<number>({ parse: parseDuration, helpValue: '<duration>' });

async function parseCount(text: string): Promise<number> {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageError(`Not a number: '${text}'`, 'Write a whole number, or none.');
}

const none =
  (parse: (text: string) => Promise<number>) =>
  async (text: string): Promise<number | null> =>
    text === 'none' ? null : parse(text);

/** A limit: null takes it away. */
export const countOrNone = Flags.custom<number | null>({
  parse: none(parseCount),
  helpValue: '<number|none>',
});
export const sizeOrNone = Flags.custom<number | null>({ parse: none(parseBytes), helpValue: '<size|none>' });

export const tokenStoreFlag = Flags.string({
  helpValue: '<location>',
  summary:
    'Where tokens are kept: a folder, or nats://HOST[:PORT][/BUCKET]; by default a folder of this user.',
});

/**
 * Flags that the token commands share, and how durations become numbers.
 */
import { Flags } from './flags.js';
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

export const tokenStoreFlag = Flags.string({
  helpValue: '<location>',
  summary:
    'Where tokens are kept: a folder, or nats://HOST[:PORT][/BUCKET]; by default a folder of this user.',
});

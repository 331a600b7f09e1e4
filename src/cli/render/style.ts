/**
 * Colours and the safety of text on a terminal.
 *
 * Invariant: text that comes from images or file names passes through `printable` before it is shown, so
 * that it cannot steer the terminal. Without colour every style is the identity.
 */
export type Paint = (text: string) => string;

export interface Style {
  readonly bold: Paint;
  readonly dim: Paint;
  readonly red: Paint;
  readonly yellow: Paint;
  readonly green: Paint;
  readonly cyan: Paint;
}

const same: Paint = (text) => text;

/** Text as it is. */
export const PLAIN: Style = { bold: same, dim: same, red: same, yellow: same, green: same, cyan: same };

/** The sixteen colours that every terminal has, or none. chalk is loaded only when it is needed. */
export async function makeStyle(color: boolean): Promise<Style> {
  if (!color) return PLAIN;
  const { Chalk } = await import('chalk');
  return new Chalk({ level: 1 });
}

/** Whether to colour: the flag, then NO_COLOR, FORCE_COLOR and TERM=dumb, then whether it is a terminal. */
export function wantsColor(
  flag: boolean | undefined,
  stream: { isTTY?: boolean },
  env: Readonly<Record<string, string | undefined>> = process.env,
): boolean {
  if (flag !== undefined) return flag;
  if (env.NO_COLOR) return false;
  if (env.FORCE_COLOR) return env.FORCE_COLOR !== '0';
  return env.TERM !== 'dumb' && stream.isTTY === true;
}

/** The text with control characters (escape sequences, line breaks, direction overrides) made visible. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * What control requests ask for: JSON of anybody, judged field by field.
 *
 * Invariant: what comes out has the kind that was asked for; everything else is INVALID_ARGUMENT and names the field.
 */
import { VhdkitError } from '../../base/errors.js';
import type { ControlRequest } from '../../nbd/control-routes.js';

interface Kinds {
  string: string;
  boolean: boolean;
  number: number;
}

export function refused(message: string, hint?: string): VhdkitError {
  const details = { operation: 'control' };
  return new VhdkitError('INVALID_ARGUMENT', message, hint === undefined ? details : { ...details, hint });
}

function fieldsOf({ body }: ControlRequest): Record<string, unknown> {
  if (body === undefined) return {};
  if (typeof body === 'object' && body !== null && !Array.isArray(body))
    return body as Record<string, unknown>;
  throw refused('The request must be a JSON object', 'Send an object, for example {"name": "monday"}.');
}

/** The fields of the kinds named that are there. @throws INVALID_ARGUMENT (another kind) */
export function optional<T extends Record<string, keyof Kinds>>(
  request: ControlRequest,
  kinds: T,
): { [K in keyof T]?: Kinds[T[K]] } {
  const fields = fieldsOf(request);
  const found: Record<string, unknown> = {};
  for (const [key, kind] of Object.entries(kinds)) {
    const value = fields[key];
    if (value === undefined) continue;
    if (typeof value !== kind) throw refused(`'${key}' must be a ${kind}`);
    found[key] = value;
  }
  return found as { [K in keyof T]?: Kinds[T[K]] };
}

/** A list of texts; empty where there is none. @throws INVALID_ARGUMENT */
export function textsOf(request: ControlRequest, key: string): string[] {
  const value = fieldsOf(request)[key] ?? [];
  if (!Array.isArray(value) || !value.every((each) => typeof each === 'string'))
    throw refused(`'${key}' must be a list of texts`);
  return value;
}

/** One of a few words; undefined where there is none. @throws INVALID_ARGUMENT */
export function oneOf<T extends string>(
  key: string,
  value: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (value === undefined) return undefined;
  const choice = choices.find((each) => each === value);
  if (choice === undefined) throw refused(`'${key}' must be one of: ${choices.join(', ')}`);
  return choice;
}

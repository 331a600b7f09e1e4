/**
 * What control requests about snapshots ask for: JSON of anybody, judged field by field.
 */
import { isAbsolute } from 'node:path';
import { VhdkitError } from '../../base/errors.js';
import type { ControlRequest } from '../../nbd/control-routes.js';
import type { SnapshotCreateOptions } from '../snapshot/create.js';
import type { SnapshotExportOptions } from '../snapshot/export.js';
import type { SnapshotChoice } from '../snapshot/open-set.js';

interface Kinds {
  string: string;
  boolean: boolean;
  number: number;
}

function refused(message: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', message, { operation: 'control' });
}

function fieldsOf({ body }: ControlRequest): Record<string, unknown> {
  if (body === undefined) return {};
  if (typeof body === 'object' && body !== null && !Array.isArray(body))
    return body as Record<string, unknown>;
  throw refused('The request must be a JSON object');
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

function oneOf<T extends string>(
  key: string,
  value: string | undefined,
  choices: readonly T[],
): T | undefined {
  if (value === undefined) return undefined;
  const choice = choices.find((each) => each === value);
  if (choice === undefined) throw refused(`'${key}' must be one of: ${choices.join(', ')}`);
  return choice;
}

/** @throws INVALID_ARGUMENT */
export function newSnapshotRequest(
  request: ControlRequest,
): Omit<SnapshotCreateOptions, keyof SnapshotChoice> {
  const { onFailure, writeOnce, ...rest } = optional(request, {
    name: 'string',
    device: 'string',
    writeOnce: 'string',
    chunkSize: 'number',
    onFailure: 'string',
    dryRun: 'boolean',
  });
  if (writeOnce !== undefined && !isAbsolute(writeOnce)) throw refused("'writeOnce' must be absolute");
  const policy = oneOf('onFailure', onFailure, ['fail-writes', 'break-snapshot'] as const);
  return {
    ...rest,
    ...(writeOnce === undefined ? {} : { writeOnce }),
    ...(policy ? { onFailure: policy } : {}),
  };
}

/** @throws INVALID_ARGUMENT */
export function exportRequest(
  request: ControlRequest,
): Omit<SnapshotExportOptions, keyof SnapshotChoice | 'name' | 'signal'> {
  const { target, to, type, provider, ...rest } = optional(request, {
    target: 'string',
    to: 'string',
    type: 'string',
    provider: 'string',
    verify: 'boolean',
    force: 'boolean',
    dryRun: 'boolean',
  });
  if (target === undefined || !isAbsolute(target)) throw refused("'target' must be an absolute path");
  const format = oneOf('to', to, ['raw', 'vhd', 'vhdx'] as const);
  const kind = oneOf('type', type, ['dynamic', 'fixed'] as const);
  const means = oneOf('provider', provider, ['auto', 'reflink', 'kernel', 'buffered'] as const);
  return {
    target,
    ...rest,
    ...(format ? { to: format } : {}),
    ...(kind ? { type: kind } : {}),
    ...(means ? { provider: means } : {}),
  };
}

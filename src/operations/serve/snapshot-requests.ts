/**
 * What control requests about snapshots and volumes ask for, as the operations take it.
 */
import { isAbsolute } from 'node:path';
import { FAILURE_POLICIES } from '../../layers/snapshots.js';
import type { NewVolume } from '../../layers/volumes.js';
import type { ControlRequest } from '../../nbd/control-routes.js';
import { PROVIDER_CHOICES } from '../../offload/transfer-types.js';
import type { SnapshotCreateOptions } from '../snapshot/create.js';
import type { SnapshotExportOptions } from '../snapshot/export.js';
import type { SnapshotChoice } from '../snapshot/open-set.js';
import { oneOf, optional, refused } from './request-fields.js';

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
  const policy = oneOf('onFailure', onFailure, FAILURE_POLICIES);
  return {
    ...rest,
    ...(writeOnce === undefined ? {} : { writeOnce }),
    ...(policy ? { onFailure: policy } : {}),
  };
}

/** @throws INVALID_ARGUMENT */
export function newVolumeRequest(request: ControlRequest): NewVolume {
  const { name, blockSize, onFailure } = optional(request, {
    name: 'string',
    blockSize: 'number',
    onFailure: 'string',
  });
  if (name === undefined) throw refused("'name' is missing", 'Send {"name": "monday"}.');
  const policy = oneOf('onFailure', onFailure, FAILURE_POLICIES);
  return {
    name,
    ...(blockSize === undefined ? {} : { blockSize }),
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
  const means = oneOf('provider', provider, PROVIDER_CHOICES);
  return {
    target,
    ...rest,
    ...(format ? { to: format } : {}),
    ...(kind ? { type: kind } : {}),
    ...(means ? { provider: means } : {}),
  };
}

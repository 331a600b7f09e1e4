/**
 * Refuses to put another disk in the place of an image that has snapshots.
 */
import { VhdkitError } from '../../base/errors.js';
import type { Host } from '../host.js';
import { findStore } from './access.js';

/** @throws HAS_SNAPSHOTS; SNAPSHOT_RECORD_INVALID (then there may be some) */
export async function assertNoSnapshots(host: Host, path: string): Promise<void> {
  const count = (await findStore(host, path))?.record.snapshots.length ?? 0;
  if (count === 0) return;
  throw new VhdkitError('HAS_SNAPSHOTS', `${path} has snapshots (${count}), which would be lost`, {
    operation: 'open target',
    context: { path, snapshots: count },
    hint: `Choose another target, or delete them first: vhdkit snapshot delete ${path} --all`,
  });
}

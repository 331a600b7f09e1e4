/**
 * Images whose past is kept beside them: whether a change may pass that by.
 *
 * Not here: the layers that keep it, and who goes through them (serve/).
 */
import { VhdkitError } from '../base/errors.js';
import { hasPreservedVolume } from '../layers/volumes.js';
import type { Host } from './host.js';

/** @throws HAS_SNAPSHOTS: what changes the image without its server would be seen in both volumes */
export async function assertNoPreservedVolume(host: Host, path: string): Promise<void> {
  const { fileSystem } = host;
  const image = (await fileSystem.realPath?.(path)) ?? path;
  if (!(await hasPreservedVolume(fileSystem, image))) return;
  throw new VhdkitError('HAS_SNAPSHOTS', `${path} has a preserved volume, which this change would pass by`, {
    operation: 'open image',
    context: { path },
    hint: 'Serve the image and write to it there, or delete the volume first.',
  });
}

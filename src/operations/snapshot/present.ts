/**
 * Whether an image may have snapshots or a preserved volume: a look at the names beside it. What handles them is loaded
 * only then, because most images have none, and commands should begin at once.
 */
import { VhdkitError } from '../../base/errors.js';
import type { EditableImage } from '../../formats/editable-image.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { snapshotFolder, volumeRecord } from '../../layers/snapshot-folder.js';
import type { Host } from '../host.js';
import type { SnapshotSummary } from './types.js';

async function mayHaveSnapshots({ fileSystem }: Host, image: string): Promise<boolean> {
  if ((await fileSystem.kind(image)) !== 'file') return false;
  const real = (await fileSystem.realPath?.(image)) ?? image;
  return (await fileSystem.kind(snapshotFolder(real))) !== 'absent';
}

/** What is recorded of an image's snapshots; undefined where it has none, or none can be told. */
export async function snapshotsBeside(
  host: Host,
  file: RandomAccessFile,
): Promise<SnapshotSummary | undefined> {
  if (!(await mayHaveSnapshots(host, file.path))) return undefined;
  const { summarizeSnapshots } = await import('./list.js');
  return summarizeSnapshots(host, file);
}

/**
 * Refuses to put another disk in the place of an image whose past is kept.
 * @throws HAS_SNAPSHOTS, SNAPSHOT_RECORD_INVALID (then there may be some)
 */
export async function refusePast(host: Host, path: string): Promise<void> {
  if ((await host.fileSystem.kind(path)) !== 'file') return;
  await refuseVolume(host, path);
  if (!(await mayHaveSnapshots(host, path))) return;
  const { assertNoSnapshots } = await import('./none.js');
  await assertNoSnapshots(host, path);
}

/** See `keepSnapshots`. */
export async function withSnapshots(host: Host, image: EditableImage): Promise<EditableImage> {
  if (image.format !== 'raw' || !(await mayHaveSnapshots(host, image.file.path))) return image;
  const { keepSnapshots } = await import('./keeping-image.js');
  return keepSnapshots(host, image);
}

/** @throws HAS_SNAPSHOTS: what changes the image without its server would be seen in both volumes */
export async function refuseVolume(host: Host, path: string): Promise<void> {
  const { fileSystem } = host;
  const image = (await fileSystem.realPath?.(path)) ?? path;
  if ((await fileSystem.kind(volumeRecord(image))) === 'absent') return;
  throw new VhdkitError('HAS_SNAPSHOTS', `${path} has a preserved volume, which this change would pass by`, {
    operation: 'open image',
    context: { path },
    hint: 'Serve the image and write to it there, or delete the volume first.',
  });
}

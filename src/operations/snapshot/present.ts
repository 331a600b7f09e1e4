/**
 * Whether an image may have snapshots: a look at the name beside it. What handles them is loaded only then, because
 * most images have none, and commands should begin at once.
 */
import type { EditableImage } from '../../formats/editable-image.js';
import { snapshotFolder } from '../../layers/snapshot-folder.js';
import type { Host } from '../host.js';

async function mayHaveSnapshots({ fileSystem }: Host, image: string): Promise<boolean> {
  if ((await fileSystem.kind(image)) !== 'file') return false;
  const real = (await fileSystem.realPath?.(image)) ?? image;
  return (await fileSystem.kind(snapshotFolder(real))) !== 'absent';
}

/** How many snapshots an image has; undefined where it has none, or none can be told. */
export async function snapshotCount(host: Host, path: string): Promise<number | undefined> {
  if (!(await mayHaveSnapshots(host, path))) return undefined;
  const { countSnapshots } = await import('./list.js');
  return countSnapshots(host, path);
}

/** See `assertNoSnapshots`. @throws HAS_SNAPSHOTS, SNAPSHOT_RECORD_INVALID */
export async function refuseSnapshots(host: Host, path: string): Promise<void> {
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

/**
 * A raw image with snapshots, open for writing by whoever knows nothing of snapshots.
 *
 * Invariant: every change keeps first what snapshots need, so that `write`, `token write` and the like can be used
 * on such an image; what can't go through them (another size) is refused. Closing records how the image is left.
 */
import { VhdkitError } from '../../base/errors.js';
import type { EditableImage } from '../../formats/editable-image.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { attachSnapshots, rawDisk, type SnapshotSet } from '../../layers/snapshots.js';
import type { Host } from '../host.js';
import { findStore, snapshotAccess } from './access.js';

function cannotResize(set: SnapshotSet): VhdkitError {
  const { label } = set.volume;
  return new VhdkitError('HAS_SNAPSHOTS', `${label} has snapshots: its size can't be changed`, {
    operation: 'resize image',
    context: { path: label, snapshots: set.store.record.snapshots.length },
    hint: `Delete them first: vhdkit snapshot delete ${label} --all`,
  });
}

/** The image's file for those who change it directly. */
function keepingFile(file: RandomAccessFile, set: SnapshotSet): RandomAccessFile {
  const { volume } = set;
  const { punch, peek, changing, writeBehind, allocate } = file;
  return {
    path: file.path,
    kind: file.kind,
    writable: file.writable,
    fd: file.fd,
    size: () => file.size(),
    read: (buffer, offset) => file.read(buffer, offset),
    async write(buffer, offset) {
      await volume.prepareChange(offset, buffer.length);
      await file.write(buffer, offset);
    },
    async zero(offset, length) {
      await volume.prepareChange(offset, length);
      await file.zero(offset, length);
    },
    async truncate(size) {
      if (size !== file.size()) throw cannotResize(set);
    },
    ...(punch && {
      punch: async (offset: number, length: number) => {
        await volume.prepareChange(offset, length);
        return punch.call(file, offset, length);
      },
    }),
    ...(allocate && {
      allocate: async (offset: number, length: number) => {
        await volume.prepareChange(offset, 0);
        return allocate.call(file, offset, length);
      },
    }),
    ...(changing && {
      changing: (offset: number, length: number) => changing.call(file, offset, length),
    }),
    ...(peek && { peek: (buffer: Uint8Array, offset: number) => peek.call(file, buffer, offset) }),
    ...(writeBehind && {
      writeBehind: (offset: number, length: number) => writeBehind.call(file, offset, length),
    }),
    flush: () => file.flush(),
    nextData: (offset, end) => file.nextData(offset, end),
    allocatedBytes: () => file.allocatedBytes(),
    fingerprint: () => file.fingerprint(),
    close: () => file.close(),
  };
}

function keepingImage(image: EditableImage, set: SnapshotSet): EditableImage {
  const { volume } = set;
  const { format, type, virtualSize, blockSize, logicalSectorSize, physicalSectorSize } = image;
  const { id, linkId, creator, parentLink, log, warnings, unwrittenIsZero } = image;
  return {
    ...{ format, type, virtualSize, blockSize, logicalSectorSize, physicalSectorSize },
    ...{ id, linkId, creator, parentLink, log, warnings, unwrittenIsZero },
    file: keepingFile(image.file, set),
    locate: (offset, length) => image.locate(offset, length),
    async prepareWrite(offset, length) {
      const prepared = await image.prepareWrite(offset, length);
      await volume.prepareChange(offset, length);
      return prepared;
    },
    async zero(offset, length, options) {
      await volume.prepareChange(offset, length);
      await image.zero(offset, length, options);
    },
    async discard(offset, length, options) {
      await volume.prepareChange(offset, length);
      return image.discard(offset, length, options);
    },
    async resize(size) {
      if (size !== virtualSize) throw cannotResize(set);
    },
    setParent: (link) => image.setParent(link),
    flush: () => image.flush(),
    layout: () => image.layout(),
    check: (options) => image.check(options),
    // The set closes the file.
    close: () => set.close(),
  };
}

/**
 * Puts the snapshots of a raw image between it and whoever changes it; the same image where there are none. A
 * restore that was interrupted is completed first. The image's lock is held.
 * @throws SNAPSHOT_RECORD_INVALID, NO_SPACE, IO_FAILED, and what opening the devices throws
 */
export async function keepSnapshots(host: Host, image: EditableImage): Promise<EditableImage> {
  if (image.format !== 'raw') return image;
  const { path } = image.file;
  const store = await findStore(host, path);
  if (!store || store.record.snapshots.length === 0) return image;
  const disk = rawDisk(image.file, host.timer);
  const { folder } = store;
  const { set } = await attachSnapshots(disk, image.file, snapshotAccess(host), { folder, writable: true });
  try {
    await set.finishRestore();
    return keepingImage(image, set);
  } catch (error) {
    await set.close();
    throw error;
  }
}

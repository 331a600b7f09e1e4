/**
 * Files as transfers see them when what is read of them can't change, although the files do.
 *
 * A write-once device's file changes whenever another chunk is written, but a chunk that was written never does;
 * a snapshot shows the same for ever. So neither is watched: `fingerprint` says that there is none.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { SnapshotView } from './snapshot-view.js';

const refuse = async (): Promise<never> => {
  throw new Error('what can not change is not written to');
};

/** The file of sealed chunks. */
export function sealedFile(file: RandomAccessFile): RandomAccessFile {
  const { peek } = file;
  return {
    path: file.path,
    kind: file.kind,
    writable: false,
    fd: file.fd,
    size: () => file.size(),
    read: (buffer, offset) => file.read(buffer, offset),
    write: refuse,
    zero: refuse,
    truncate: refuse,
    flush: async () => undefined,
    nextData: (offset, end) => file.nextData(offset, end),
    ...(peek ? { peek: (buffer: Uint8Array, offset: number) => peek.call(file, buffer, offset) } : {}),
    allocatedBytes: () => file.allocatedBytes(),
    fingerprint: () => undefined,
    close: async () => undefined,
  };
}

/** A snapshot as a file that is read in this process: where its disk is being written to. */
export function viewFile(view: SnapshotView): RandomAccessFile {
  return {
    path: view.label,
    kind: 'file',
    writable: false,
    fd: undefined,
    size: () => view.size,
    async read(buffer, offset) {
      const length = Math.max(0, Math.min(buffer.length, view.size - offset));
      await view.read(buffer.subarray(0, length), offset);
      return length;
    },
    write: refuse,
    zero: refuse,
    truncate: refuse,
    flush: async () => undefined,
    nextData: (offset, end) =>
      offset < Math.min(end, view.size) ? { offset, length: Math.min(end, view.size) - offset } : undefined,
    allocatedBytes: async () => view.size,
    fingerprint: () => undefined,
    close: async () => undefined,
  };
}

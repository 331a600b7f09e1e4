/**
 * The system's files with a fault: bytes that change on their way into a new file, as a bad controller,
 * cable or memory module does it.
 *
 * Invariant: only files that are created through it are touched, never those that are opened. They have no
 * descriptor to show, so everything written passes through here and not through the kernel.
 */
import type { FileSystem, PendingFile, ResumableFile } from '../../src/io/file-system.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import type { RandomAccessFile } from '../../src/io/random-access-file.js';

/** May change the bytes (a copy) that are about to be written at the offset. */
export type Fault = (bytes: Buffer, offset: number, file: RandomAccessFile) => void;

function faulty(file: RandomAccessFile, fault: Fault): RandomAccessFile {
  return {
    path: file.path,
    kind: file.kind,
    writable: file.writable,
    fd: undefined,
    size: () => file.size(),
    read: (buffer, offset) => file.read(buffer, offset),
    async write(buffer, offset) {
      const copy = Buffer.from(buffer);
      fault(copy, offset, file);
      await file.write(copy, offset);
    },
    zero: (offset, length) => file.zero(offset, length),
    truncate: (size) => file.truncate(size),
    flush: () => file.flush(),
    nextData: (offset, end) => file.nextData(offset, end),
    allocatedBytes: () => file.allocatedBytes(),
    fingerprint: () => file.fingerprint(),
    close: () => file.close(),
  };
}

function withFault<T extends PendingFile>(pending: T, fault: Fault): T {
  const file = faulty(pending.file, fault);
  return new Proxy(pending, {
    get(target, name) {
      if (name === 'file') return file;
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

export function faultyFileSystem(fault: Fault): FileSystem {
  return {
    ...nodeFileSystem,
    createPending: async (path, options): Promise<PendingFile> =>
      withFault(await nodeFileSystem.createPending(path, options), fault),
    openResumable: async (path, options): Promise<ResumableFile> =>
      withFault(await nodeFileSystem.openResumable(path, options), fault),
  };
}

/** Flips one bit of the byte at an offset of the file, whenever it is written. */
export function flipBitAt(position: number): Fault {
  return (bytes, offset) => {
    const index = position - offset;
    if (index >= 0 && index < bytes.length) bytes[index] = (bytes[index] ?? 0) ^ 1;
  };
}

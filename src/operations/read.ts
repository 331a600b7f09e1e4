/**
 * `read`: a range of a disk as bytes, through the chain.
 */
import { throwIfAborted } from '../base/errors.js';
import type { FormatId } from '../formats/disk-image.js';
import { assertInsideDisk, readDisk } from '../formats/image-reader.js';
import type { Host } from './host.js';
import { openWholeChain } from './whole-chain.js';

const CHUNK = 1024 * 1024;

export interface ReadOptions {
  path: string;
  format?: FormatId;
  /** Default 0. */
  offset?: number;
  /** Default: to the end of the disk. */
  length?: number;
  /** Only this image's own data; the rest reads as zeros. */
  withoutParent?: boolean;
  signal?: AbortSignal;
}

export interface DiskReader {
  readonly length: number;
  /** The bytes in order. A chunk's buffer is valid only until the next step. */
  chunks(): AsyncGenerator<Uint8Array>;
  close(): Promise<void>;
}

/** @throws OUT_OF_RANGE, NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, IO_FAILED */
export async function openRead(host: Host, options: ReadOptions): Promise<DiskReader> {
  const chain = await openWholeChain(host, options.path, {
    ...(options.format ? { format: options.format } : {}),
    withoutParent: options.withoutParent ?? false,
  });
  const offset = options.offset ?? 0;
  const length = options.length ?? Math.max(0, chain.virtualSize - offset);
  try {
    assertInsideDisk(chain.virtualSize, offset, length, options.path);
  } catch (error) {
    await chain.close();
    throw error;
  }
  return {
    length,
    close: () => chain.close(),
    async *chunks() {
      const buffer = new Uint8Array(Math.min(CHUNK, length));
      for (let done = 0; done < length; done += CHUNK) {
        throwIfAborted(options.signal, 'read');
        const part = buffer.subarray(0, Math.min(CHUNK, length - done));
        await readDisk(chain, part, offset + done);
        yield part;
      }
    },
  };
}

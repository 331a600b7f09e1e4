/**
 * What a transfer session is given and what it gives back. Types, and the names of what can be chosen.
 */
import type { PreparedWrite } from '../block/extent.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { RateLimit } from './rate-limit.js';

/**
 * Which means may be used. `auto`: the cheapest that works; by name: only that one (edges excepted); `skip-N`: as
 * `auto`, but without the N cheapest of those that would do it between two files.
 */
export const PROVIDER_CHOICES = ['auto', 'reflink', 'kernel', 'buffered', 'skip-1', 'skip-2'] as const;
export type ProviderChoice = (typeof PROVIDER_CHOICES)[number];

/**
 * `scan`: payload is read, and 64 KiB chunks that hold only zeros are not written. `holes`: payload is not
 * looked at. `auto`: `holes` where extents can be shared, `scan` elsewhere.
 */
export type ZeroPolicy = 'auto' | 'scan' | 'holes';

/** Bytes of the virtual disk, by how they got to the target. */
export interface BytesMoved {
  /** By sharing extents; no byte was copied. */
  shared: number;
  /** Copied inside the kernel or by the storage. */
  kernelCopied: number;
  /** Read and written by this process. */
  buffered: number;
  /** Made or left zero: holes and unallocated blocks of the source, and payload found to be zero. */
  zeroed: number;
}

/** What a session needs of its target. A writable DiskImage is one. */
export interface TransferTarget {
  readonly file: RandomAccessFile;
  /** True when parts that are not written read as zeros. */
  readonly unwrittenIsZero: boolean;
  /** Allocation unit in bytes: writes prepared at the same time never share one. Undefined: no units. */
  readonly blockSize?: number | undefined;
  prepareWrite(offset: number, length: number): Promise<PreparedWrite>;
}

export interface TransferOptions {
  provider: ProviderChoice;
  zeros: ZeroPolicy;
  signal?: AbortSignal;
  /** Called with the bytes of the disk dealt with so far (monotonic). */
  onProgress?: (done: number) => void;
  /** Called, before `onProgress`, with the bytes of payload just read or copied; shared ones cost nothing. */
  onCost?: (bytes: number) => void;
  /** Limits the bytes read and copied. One for all sessions that are to keep to it together. */
  rateLimit?: RateLimit;
}

/** What a transfer would do. */
export interface Forecast {
  bytes: BytesMoved;
  /** Allocation units of the target that would be written to; 0 where it has none. */
  blocks: number;
  /** Payload that would be looked at, and is counted as not zero: `bytes` and `blocks` are upper bounds. */
  scanned: number;
}

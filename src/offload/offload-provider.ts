/**
 * The offload provider contract: makes the data that a token stands for appear in a file.
 *
 * A provider may do less than asked (effective length) and the requestor goes on from there; a provider
 * that can't do a range at all answers `unsupported`, which makes the session try the next one. Only a
 * failure that no other provider could cure is thrown.
 *
 * Reading past a token's end gives zeros and never bytes beyond it.
 */
import type { ByteRange, RandomAccessFile } from '../io/random-access-file.js';
import type { Token, TokenMode } from './token.js';

export type ProviderId = 'zero' | 'reflink' | 'kernel' | 'buffered';

export interface OffloadReadOptions {
  mode: TokenMode;
  /** Inactivity time-out in milliseconds; 0 takes the manager's default. */
  ttl: number;
}

/** A token and the range of the file it stands for; the range may be shorter than the one asked for. */
export interface BoundToken extends ByteRange {
  token: Token;
}

/** What a provider can do between two files; asked once per pair. */
export interface OffloadCapabilities {
  supported: boolean;
  /** Why not, for messages: `the files are on different file systems`. */
  reason?: string;
  /** Source offset, target offset and length must be multiples of this. */
  alignment: number;
  /** Longest range of one call. */
  maxLength: number;
}

export type OffloadWriteResult =
  /** Bytes done, at least 1. */
  | { status: 'done'; length: number }
  /** Not by this provider, not here: try the next one. */
  | { status: 'unsupported'; reason: string };

export interface OffloadWriteRequest {
  token: Token;
  /** Start within what the token stands for. */
  tokenOffset: number;
  target: RandomAccessFile;
  targetOffset: number;
  length: number;
  signal?: AbortSignal;
}

/** A range of a file that is to appear in another at once, by whoever has both open: no token is needed. */
export interface CopyStep {
  source: RandomAccessFile;
  sourceOffset: number;
  target: RandomAccessFile;
  targetOffset: number;
  length: number;
  signal?: AbortSignal;
}

export interface OffloadProvider {
  readonly id: ProviderId;
  capabilities(source: RandomAccessFile, target: RandomAccessFile): OffloadCapabilities;
  /** @throws OUT_OF_RANGE, UNSUPPORTED (a mode this provider can't give) */
  offloadRead(file: RandomAccessFile, range: ByteRange, options: OffloadReadOptions): Promise<BoundToken[]>;
  /** @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, NO_SPACE, IO_FAILED, CANCELLED */
  offloadWrite(request: OffloadWriteRequest): Promise<OffloadWriteResult>;
  /**
   * The copying half of copy-and-write (copy-and-write.ts); the range lies inside the source file. Absent from
   * providers that move no data. @throws NO_SPACE, READ_ONLY, IO_FAILED, CANCELLED
   */
  copyStep?(step: CopyStep): Promise<OffloadWriteResult>;
}

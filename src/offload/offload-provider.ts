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

/**
 * A token and the range of the file it stands for; the range may be shorter than the one asked for. Of
 * several, the first begins where the range does and the others follow without gaps.
 */
export interface BoundToken extends ByteRange {
  token: Token;
  /** Where the range begins within what the token stands for; 0 if absent. */
  tokenOffset?: number;
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
  /** Ranges up to this are better copied when the source is to be overwritten. Absent: none. */
  dearToOverwrite?: number;
}

/**
 * What an "unsupported" is about: this range only, these two files, or everything between the two devices
 * that they are on. What failed for files or devices is not tried again for a while (failed-pairs.ts).
 */
export type FailureScope = 'range' | 'files' | 'devices';

export type OffloadWriteResult =
  /** Bytes done, at least 1. */
  | { status: 'done'; length: number }
  /** Not by this provider, not here: try the next one. Without a scope it is about the devices. */
  | { status: 'unsupported'; reason: string; scope?: FailureScope };

/** A token that is kept from expiring. */
export interface HeldToken {
  /** Where its data is, for whoever asks what a provider can do: undefined for zeros. */
  readonly source: { readonly file: RandomAccessFile; readonly offset: number } | undefined;
  /** @throws SOURCE_CHANGED when its data is not what it was, as far as its mode promises that */
  verifyUnchanged(): Promise<void>;
  release(): void;
}

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
  /** The target gets storage of its own, also where the kernel would share extents unasked. */
  apart?: boolean;
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
  /**
   * Proves a token and keeps it from expiring until it is released. Absent where tokens stay with a provider
   * that tells nothing of them.
   * @throws TOKEN_INVALID, TOKEN_EXPIRED, SOURCE_CHANGED, PERMISSION_DENIED, IO_FAILED
   */
  hold?(token: Token): Promise<HeldToken>;
}

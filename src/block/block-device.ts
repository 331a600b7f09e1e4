/**
 * The block device contract: a disk that is read and written as a whole by many at once. What layers stand on,
 * and what the NBD server exports.
 *
 * Invariants: any number of requests may be under way at the same time; overlapping ones that are under way
 * together take effect in some order, sector by sector. What a finished request wrote is seen by every later
 * one. What was written before `flush` was asked for and had finished is durable when `flush` returns. A
 * request that failed changed nothing outside its own range.
 *
 * Offsets and lengths are bytes, safe integers and multiples of `blockSize`; whoever takes requests from outside puts a
 * guard in front (guarded-device.ts), devices only assert.
 *
 * Not here: names, users, locks between processes (operations), protocol (nbd/).
 */

/** What a device can do. A layer may take away, never add. */
export interface DeviceCapabilities {
  readonly writable: boolean;
  /** `trim` gives storage back. */
  readonly trim: boolean;
  /** `zero` costs less than writing zeros. */
  readonly zero: boolean;
  /** `zero` with `fast` is either quick or refused before anything is changed. */
  readonly fastZero: boolean;
  /** `extents` tells holes and zeros; without it everything is data. */
  readonly extents: boolean;
  /**
   * Several users of the device see one state, and a flush by one covers what the others had finished. False
   * where every connection has a cache of its own.
   */
  readonly multiConn: boolean;
}

/** A run of a device. `hole`: no storage is taken. `zero`: reads as zeros. */
export interface DeviceExtent {
  offset: number;
  length: number;
  hole: boolean;
  zero: boolean;
}

export interface DeviceWriteOptions {
  /** Durable when the request is answered (FUA). */
  durable?: boolean;
}

export interface DeviceZeroOptions extends DeviceWriteOptions {
  /** The storage stays taken (NBD's NO_HOLE). Default: it may be given back. */
  keepStorage?: boolean;
  /** Refuse with UNSUPPORTED, before changing anything, where it takes as long as writing. */
  fast?: boolean;
}

export interface BlockDevice {
  /** For messages: the image's path, or what a layer makes of it. */
  readonly label: string;
  /** Bytes. */
  readonly size: number;
  /** Every offset and length is a multiple of it: 1 where any byte can be addressed. A power of two. */
  readonly blockSize: number;
  /** Requests of this size and alignment cost least. A power of two, at least 512. */
  readonly preferredSize: number;
  readonly capabilities: DeviceCapabilities;
  /** Fills the buffer. @throws IO_FAILED, IMAGE_CORRUPT */
  read(buffer: Uint8Array, offset: number): Promise<void>;
  /**
   * The same at once where that needs no waiting (memory, page cache); false, and the buffer holds anything,
   * where it would. Absent where it never works.
   */
  readNow?(buffer: Uint8Array, offset: number): boolean;
  /** @throws READ_ONLY, NO_SPACE, IO_FAILED */
  write(bytes: Uint8Array, offset: number, options?: DeviceWriteOptions): Promise<void>;
  /**
   * The same at once, not durable, where that needs no waiting and no other request can be in the way; false,
   * and nothing was written, where it would. Absent where it never works.
   */
  writeNow?(bytes: Uint8Array, offset: number): boolean;
  /** @throws READ_ONLY, NO_SPACE, IO_FAILED, UNSUPPORTED (`fast`) */
  zero(offset: number, length: number, options?: DeviceZeroOptions): Promise<void>;
  /** The content is not needed any more; afterwards the range reads as anything, storage may be given back. */
  trim(offset: number, length: number, options?: DeviceWriteOptions): Promise<void>;
  /** @throws IO_FAILED, NO_SPACE */
  flush(): Promise<void>;
  /**
   * What the range consists of, in order, beginning at `offset`; may end before the range does, but covers at
   * least its first block. @throws IO_FAILED, IMAGE_CORRUPT
   */
  extents(offset: number, length: number): Promise<DeviceExtent[]>;
  /** Finishes what is under way, flushes, and gives everything back. Nothing may be asked afterwards. */
  close(): Promise<void>;
}

/**
 * The write-once device contract: a sparse device with the addresses of a primary disk, on which each chunk can
 * be written once (US 8,281,096).
 *
 * Invariants: initialised empty; a chunk is either unwritten or has been written once, whole, for ever. A second
 * write of a chunk is refused, atomically: of two that race, also from two processes or hosts, one wins and the
 * other is told so, whatever it carried. A chunk counts as written only after its data is durable, and whoever was
 * told that it is written can rely on it after a crash. Reading an unwritten chunk is an answer, not data.
 *
 * Deliberately no map of what is written that users share: `isWritten` asks the device; users keep their own
 * hints (a chunk once written stays so) and may be behind.
 */
import type { RandomAccessFile } from '../io/random-access-file.js';

/** A place for one chunk: the bytes go to `[fileOffset, fileOffset + length)` of the file. */
export interface ChunkPlace {
  file: RandomAccessFile;
  fileOffset: number;
  length: number;
}

/**
 * A chunk on its way: the data is put into `place` by whatever means (offload providers), then sealed. Until
 * then others see the chunk unwritten.
 */
export interface ChunkWrite {
  readonly place: ChunkPlace;
  /** Makes it durable and the chunk's one write. `lost`: somebody else wrote the chunk meanwhile. */
  seal(): Promise<'written' | 'lost'>;
  /** Forgets it; the chunk stays unwritten. */
  abandon(): Promise<void>;
}

/** How a device keeps its chunks. */
export type WriteOnceKind = 'sparse' | 'vhd' | 'vhdx' | 'thin' | 'remote';

export interface WriteOnceDevice {
  readonly kind: WriteOnceKind;
  readonly label: string;
  /** Bytes: those of the primary. */
  readonly size: number;
  /** Bytes, a power of two from 4 KiB to 16 MiB; the last chunk ends with the device. */
  readonly chunkSize: number;
  /** Which primary it belongs to: chosen when it is made, compared when it is opened. */
  readonly primaryId: string;
  /** Index of the chunk: offset / chunkSize. */
  isWritten(chunk: number): Promise<boolean>;
  /**
   * Where the written chunk lies; undefined: unwritten. The place stays valid as long as the device is open.
   * @throws IO_FAILED, IMAGE_CORRUPT
   */
  locate(chunk: number): Promise<ChunkPlace | undefined>;
  /**
   * Begins the one write of a chunk. `written`: it has been written, durably. Kinds whose chunks have fixed places wait
   * while somebody else has begun it, so whoever has several begun begins them in ascending order.
   * @throws NO_SPACE, READ_ONLY, IN_USE (somebody has had it begun for a minute), IO_FAILED
   */
  begin(chunk: number): Promise<ChunkWrite | 'written'>;
  /**
   * Seals several chunks with one flush; answers in the order asked. Whoever copies many uses this.
   */
  sealAll(writes: readonly ChunkWrite[]): Promise<('written' | 'lost')[]>;
  /** The chunks written so far, in order; of others' writes some may be missing. */
  written(): AsyncIterable<number>;
  /** Bytes of storage in use, as far as the system tells. */
  allocatedBytes(): Promise<number>;
  close(): Promise<void>;
}

/**
 * The free-space contract: which parts of a disk its file systems hold free. Types only.
 *
 * Invariant: a range is called free only when a file system that passed every consistency check made first
 * says so itself. Whatever is unknown, damaged, in use or not cleanly unmounted is kept as a whole: the
 * answer for it is a reason, never a guess.
 */
import type { ByteRange } from '../io/random-access-file.js';
import type { ReadBytes } from './partition-table.js';

export type FileSystemKind =
  | 'ext2'
  | 'ext3'
  | 'ext4'
  | 'ntfs'
  | 'fat12'
  | 'fat16'
  | 'fat32'
  | 'exfat'
  | 'xfs'
  | 'btrfs'
  /** No file system, but an area whose content nobody needs after a shutdown. */
  | 'swap';

/** A part of the disk that one reader looks at. Byte offsets of the disk. */
export interface VolumeRange extends ByteRange {
  /** `partition 2`, `whole disk`, for messages. */
  name: string;
}

export interface VolumeReport {
  volume: VolumeRange;
  /** What is on it: a file system, or what it was recognised as (`swap`, `LUKS`, `LVM`, `unknown`). */
  kind: string;
  /**
   * `read`: its free ranges are known; `kept`: all of it stays. A kept volume says why in `reason`:
   * not cleanly unmounted, damaged, a feature that is not understood, opaque by nature.
   */
  verdict: 'read' | 'kept';
  reason?: string;
  /** Bytes the file system calls free, inside the volume; 0 when kept. */
  freeBytes: number;
}

/** A volume whose free space can be walked. */
export interface FreeSpace {
  kind: FileSystemKind;
  freeBytes: number;
  /**
   * Free ranges in order, disk offsets, inside the volume, neighbours joined. Read lazily with flat memory.
   * @throws IMAGE_CORRUPT when a structure turns out to contradict what was checked; nothing that was
   *   yielded before may be used then: callers collect or walk once in advance.
   */
  ranges(): AsyncIterable<ByteRange>;
}

/** What a reader says of a volume: not mine, mine but to be kept, or its free space. */
export type FreeSpaceAnswer =
  | { status: 'other' }
  | {
      status: 'kept';
      kind: string;
      reason: string;
      /** A suspended system is stored here and knows all of the disk: no volume of it may change. */
      hibernated?: boolean;
    }
  | { status: 'free'; space: FreeSpace };

/** One reader: recognises its file system on a volume by content and judges it. */
export type FreeSpaceReader = (read: ReadBytes, volume: VolumeRange) => Promise<FreeSpaceAnswer>;

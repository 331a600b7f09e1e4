/**
 * What to do next, for errors that do not say it themselves.
 *
 * Invariant: every code has a hint, so no failure leaves people without a next step. A hint given where an
 * error was thrown knows more and goes first.
 */
import type { ErrorCode } from '../base/errors.js';

const HINTS: Record<ErrorCode, string> = {
  INVALID_ARGUMENT: 'Correct the value; `--help` says what is possible.',
  NOT_FOUND: 'Check the path.',
  ALREADY_EXISTS: 'Choose another name, or use --force to replace it.',
  PERMISSION_DENIED: 'Check the permissions of the file and its folder.',
  NO_SPACE: 'Free some space, or choose a target on another file system.',
  IO_FAILED: 'Look into the system log for failing storage, and try again; --debug shows the cause.',
  NOT_A_DISK: 'Name an image file or a block device.',
  IN_USE: 'Close whatever holds it (unmount the file system, stop the virtual machine), then try again.',
  OUT_OF_RANGE: '`vhdkit info IMAGE` tells how large the disk is.',
  FORMAT_UNKNOWN: 'If you know the format, name it with -f raw, -f vhd or -f vhdx.',
  UNSUPPORTED: '`vhdkit info IMAGE` tells what the image is; `--help` what can be done.',
  IMAGE_CORRUPT: '`vhdkit check IMAGE` lists all defects; restore the image from a backup.',
  READ_ONLY: 'Check the permissions of the file and how it is opened.',
  PARENT_MISSING:
    'Put the parent back where the child expects it; `vhdkit info IMAGE --chain` tells where that is.',
  PARENT_MISMATCH:
    'Find the parent that the child was made from; a parent that was changed since can not serve it.',
  PARENT_LOOP: 'The images name each other as parents; restore one of them from a backup.',
  CHAIN_TOO_DEEP: 'Merge some of the images: `vhdkit merge CHILD`, on one further down the chain.',
  TARGET_TOO_SMALL: 'Choose a larger device, or a format that goes further: VHDX holds up to 64 TiB.',
  TOKEN_INVALID: 'Make a new token.',
  TOKEN_EXPIRED: 'Make a new token, with a longer time.',
  TOKEN_LIMIT: 'Revoke tokens that are not needed, or raise the limits of the store: `vhdkit token limits`.',
  TOKEN_STORE_FAILED: 'Check the token store, or name another one.',
  SOURCE_CHANGED: 'Stop whatever writes to it, or use --snapshot-source on storage that can share extents.',
  VERIFY_FAILED: 'Convert again; if it happens again, test the memory and the storage of this machine.',
  UNWRITTEN: 'Read the chunk from the primary disk: it has not been changed there.',
  ALREADY_WRITTEN: 'Go on without: whoever was first has saved the chunk.',
  SNAPSHOT_BROKEN: 'Delete the snapshot; the disk itself is not affected.',
  HAS_SNAPSHOTS: 'Delete its snapshots first: vhdkit snapshot list IMAGE says which there are.',
  SNAPSHOT_RECORD_INVALID:
    'Put the folder of the snapshots back from a backup, or remove it to give them up.',
  WRITE_ONCE_MISMATCH: 'Name the write-once device that was made for this disk, or make a new one.',
  OFFLOAD_UNSUPPORTED: 'Use --provider auto, which falls back to what works.',
  CANCELLED: 'Run the command again. `convert --resume` keeps what was done when it is stopped.',
};

export function hintFor(code: ErrorCode): string {
  return HINTS[code];
}

/**
 * The one error class of vhdkit.
 *
 * Invariant: every failure a caller may want to tell apart has its own stable `code`; messages may be
 * reworded, codes may not. Defects of an image's own structures are described by
 * `context.defect` (a code of the format, also used by `check` findings) under `IMAGE_CORRUPT`.
 *
 * Deliberately not here: exit codes and rendering (cli/), and programmer mistakes (base/assert.ts).
 */

/** Stable codes. Each line says when it is used. */
export type ErrorCode =
  /** A size, offset or option value that makes no sense. */
  | 'INVALID_ARGUMENT'
  /** The file or folder is not there. */
  | 'NOT_FOUND'
  /** The target exists and overwriting was not asked for. */
  | 'ALREADY_EXISTS'
  /** The operating system refused access. */
  | 'PERMISSION_DENIED'
  /** The target's storage is full, or a quota is. */
  | 'NO_SPACE'
  /** Reading or writing failed for another reason; `cause` has the system error. */
  | 'IO_FAILED'
  /** A folder, socket or the like where a file or block device is needed. */
  | 'NOT_A_DISK'
  /** Somebody else holds the file or device. */
  | 'IN_USE'
  /** A range outside the disk or file. */
  | 'OUT_OF_RANGE'
  /** The format was not recognised, or the name says none. */
  | 'FORMAT_UNKNOWN'
  /** The format is known, but this variant or feature of it is not supported. */
  | 'UNSUPPORTED'
  /** The image contradicts its specification; `context.defect` and `context.offset` say what and where. */
  | 'IMAGE_CORRUPT'
  /** A write into an image that is open for reading only. */
  | 'READ_ONLY'
  /** A differencing image's parent was not found. */
  | 'PARENT_MISSING'
  /** A parent was found, but it is not the one the child was made from. */
  | 'PARENT_MISMATCH'
  /** A chain of parents that comes back to itself. */
  | 'PARENT_LOOP'
  /** A chain longer than the limit. */
  | 'CHAIN_TOO_DEEP'
  /** The target (a block device, a file system's or a format's limit) cannot hold the disk. */
  | 'TARGET_TOO_SMALL'
  /** The token is forged, damaged, unknown or from another manager. */
  | 'TOKEN_INVALID'
  /** The token's time is over. */
  | 'TOKEN_EXPIRED'
  /** The limits of a token store leave no room, and nothing may be evicted; `context.reason` says which limit. */
  | 'TOKEN_LIMIT'
  /** The token store can't be used: out of reach, damaged, of a newer version, …; `context.reason` says which. */
  | 'TOKEN_STORE_FAILED'
  /** The data that a change-vulnerable token stands for was changed. */
  | 'SOURCE_CHANGED'
  /** What was written is not what was to be written; `context.offset` says where it differs first. */
  | 'VERIFY_FAILED'
  /** A chunk of a write-once device that nobody has written yet: there is nothing to read. */
  | 'UNWRITTEN'
  /** The chunk of a write-once device has been written: there is no second time. */
  | 'ALREADY_WRITTEN'
  /** A snapshot that can't be read any more: `context.reason` says what happened to it. */
  | 'SNAPSHOT_BROKEN'
  /** The image has snapshots, which what was asked for would break. */
  | 'HAS_SNAPSHOTS'
  /** The record of an image's snapshots is damaged, of a newer version, or of another image; see `context.reason`. */
  | 'SNAPSHOT_RECORD_INVALID'
  /** A write-once device that is not the one wanted; `context.reason`: `primary`, `size`, `chunk-size`, `not-empty`. */
  | 'WRITE_ONCE_MISMATCH'
  /** No provider could carry out the transfer by the means that was demanded. */
  | 'OFFLOAD_UNSUPPORTED'
  /** Cancelled by the caller (Ctrl-C, an AbortSignal). */
  | 'CANCELLED';

/** Facts about where it happened. Offsets and lengths are bytes. */
export interface ErrorContext {
  path?: string;
  offset?: number;
  length?: number;
  /** Code of the format defect, for example `VHDX_BAT_ENTRY_OUTSIDE_FILE`. */
  defect?: string;
  [key: string]: string | number | boolean | readonly string[] | undefined;
}

export interface ErrorDetails {
  /** What was being done, as a short phrase: `open image`, `copy range`. */
  operation?: string;
  context?: ErrorContext;
  cause?: unknown;
  /** What the user can do about it: one sentence. */
  hint?: string;
}

const BRAND = Symbol.for('vhdkit.error');

export class VhdkitError extends Error {
  readonly code: ErrorCode;
  readonly operation: string | undefined;
  readonly context: ErrorContext;
  readonly hint: string | undefined;
  readonly [BRAND] = true;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'VhdkitError';
    this.code = code;
    this.operation = details.operation;
    this.context = details.context ?? {};
    this.hint = details.hint;
  }
}

/** True for a VhdkitError of this or of another copy of the package. */
export function isVhdkitError(value: unknown): value is VhdkitError {
  return typeof value === 'object' && value !== null && BRAND in value;
}

const SYSTEM_CODES: Record<string, ErrorCode> = {
  ENOENT: 'NOT_FOUND',
  ENOTDIR: 'NOT_FOUND',
  EEXIST: 'ALREADY_EXISTS',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  EROFS: 'PERMISSION_DENIED',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'TARGET_TOO_SMALL',
  EISDIR: 'NOT_A_DISK',
  EBUSY: 'IN_USE',
  ETXTBSY: 'IN_USE',
};

const HINTS: Partial<Record<ErrorCode, string>> = {
  NOT_FOUND: 'Check the path.',
  PERMISSION_DENIED: 'Check the permissions of the file and its folder.',
  TARGET_TOO_SMALL:
    'The file system takes no file so large: use another one (XFS), or an image that only holds what is stored.',
  NO_SPACE: 'Free some space or choose a target on another file system.',
  IN_USE: 'Close whatever holds it (unmount the file system, stop the virtual machine), then try again.',
};

/** The `code` of a Node system error (`ENOENT`, …), or undefined for anything else. */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' ? code : undefined;
}

/** Turns a Node system error into a VhdkitError that names the file. VhdkitErrors pass unchanged. */
export function fromSystemError(error: unknown, operation: string, context: ErrorContext): VhdkitError {
  if (isVhdkitError(error)) return error;
  const system = systemCode(error);
  const code = (system && SYSTEM_CODES[system]) || 'IO_FAILED';
  const reason =
    error instanceof Error
      ? error.message.replace(/^[A-Z0-9]+: /, '').replace(/, \w+( '.*')?$/, '')
      : String(error);
  const details: ErrorDetails = { operation, context, cause: error };
  const hint = HINTS[code];
  if (hint) details.hint = hint;
  return new VhdkitError(code, `Cannot ${operation}: ${reason}${system ? ` (${system})` : ''}`, details);
}

/** Throws CANCELLED when the signal is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined, operation: string, hint?: string): void {
  if (!signal?.aborted) return;
  const options = { operation, cause: signal.reason, ...(hint === undefined ? {} : { hint }) };
  throw new VhdkitError('CANCELLED', `Cancelled: ${operation}`, options);
}

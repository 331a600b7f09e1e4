/**
 * How failures travel: our codes to the few error numbers that NBD knows, and back.
 *
 * With structured replies the message of an error is the code itself (`UNWRITTEN`), so that a client of ours gets back
 * the error that happened; other clients see the number. Nothing else is told: messages name files of the server.
 *
 * Numbers of write-once devices: a second write is EPERM; reading what is unwritten is ENOTSUP, which no other
 * failure of a read is.
 */
import { type ErrorCode, isVhdkitError } from '../base/errors.js';
import { Errno, type ErrnoValue } from './protocol.js';

/** A failure as it travels. */
export interface WireError {
  readonly errno: ErrnoValue;
  /** Empty, or a code. */
  readonly message: string;
}

/** Codes that mean something to a client; all others are EIO. */
const ERRNOS: Partial<Record<ErrorCode, ErrnoValue>> = {
  INVALID_ARGUMENT: Errno.EINVAL,
  OUT_OF_RANGE: Errno.EINVAL,
  NO_SPACE: Errno.ENOSPC,
  TARGET_TOO_SMALL: Errno.ENOSPC,
  READ_ONLY: Errno.EPERM,
  PERMISSION_DENIED: Errno.EPERM,
  ALREADY_WRITTEN: Errno.EPERM,
  IN_USE: Errno.EPERM,
  UNSUPPORTED: Errno.ENOTSUP,
  OFFLOAD_UNSUPPORTED: Errno.ENOTSUP,
  UNWRITTEN: Errno.ENOTSUP,
  CANCELLED: Errno.ESHUTDOWN,
};

/** What a client gets to know of a failure. Anything that is not ours (a mistake of the program) is EIO. */
export function toWire(error: unknown): WireError {
  if (!isVhdkitError(error)) return { errno: Errno.EIO, message: '' };
  return { errno: ERRNOS[error.code] ?? Errno.EIO, message: error.code };
}

/** Codes that a client may take over from a server's message. */
const TRAVELLING: readonly ErrorCode[] = [
  ...(Object.keys(ERRNOS) as ErrorCode[]),
  'IO_FAILED',
  'IMAGE_CORRUPT',
  'VERIFY_FAILED',
];

const CODES: Readonly<Record<number, ErrorCode>> = {
  [Errno.EPERM]: 'READ_ONLY',
  [Errno.EINVAL]: 'INVALID_ARGUMENT',
  [Errno.ENOSPC]: 'NO_SPACE',
  [Errno.EOVERFLOW]: 'INVALID_ARGUMENT',
  [Errno.ENOTSUP]: 'UNSUPPORTED',
};

/** The code of a failure that a server told. */
export function fromWire(errno: number, message: string): ErrorCode {
  const told = TRAVELLING.find((code) => code === message);
  return told ?? CODES[errno] ?? 'IO_FAILED';
}

const NAMES = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]));

/** `ENOSPC`, or the number. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `error ${errno}`;
}

/**
 * Linux error numbers that the code above looks at. Values of asm-generic, equal on every architecture
 * that library.ts admits.
 */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EXDEV: 18,
  EINVAL: 22,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  ENOSYS: 38,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  EDQUOT: 122,
} as const;

const NAMES = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]));

/** The symbolic name, as Node reports it in `error.code`; `errno 123` for one that is not in the list. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

/** An error of the shape Node's own file functions throw, so that `fromSystemError` understands it. */
export function errnoError(
  errno: number,
  call: string,
): Error & { code: string; errno: number; syscall: string } {
  const code = errnoName(errno);
  return Object.assign(new Error(`${code}: ${call} failed`), { code, errno, syscall: call });
}

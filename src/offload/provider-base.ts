/**
 * What all providers have in common: binding, resolving, zeros past the token's end, read-only targets.
 *
 * A provider adds only how it moves a range between two files.
 */
import { throwIfAborted, VhdkitError } from '../base/errors.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import {
  Errno,
  errnoError,
  errnoName,
  type NativeCalls,
  nativeCalls,
  nativeUnavailableReason,
} from '../native/native.js';
import type {
  CopyStep,
  FailureScope,
  HeldToken,
  OffloadCapabilities,
  OffloadProvider,
  OffloadWriteRequest,
  OffloadWriteResult,
  ProviderId,
} from './offload-provider.js';
import type { Token } from './token.js';
import type { TokenManager } from './token-manager.js';
import { partOfToken, type TokenPart } from './token-reader.js';

/** A range of a file that is to appear in another; it lies inside the source file. */
export type RangeMove = CopyStep;

export interface RangeMover {
  readonly id: ProviderId;
  capabilities(source: RandomAccessFile, target: RandomAccessFile): OffloadCapabilities;
  move(range: RangeMove): Promise<OffloadWriteResult>;
}

export function unsupported(
  reason: string,
  scope: FailureScope,
): { status: 'unsupported'; reason: string; scope: FailureScope } {
  return { status: 'unsupported', reason, scope };
}

export function incapable(reason: string): OffloadCapabilities {
  return { supported: false, reason, alignment: 1, maxLength: 0 };
}

/** Two regular files, and the calls that work on their descriptors. */
export interface KernelPair {
  native: NativeCalls;
  sourceFd: number;
  targetFd: number;
}

/** What the kernel is to be asked about two files; a text says why it can't be asked. */
export function kernelPair(source: RandomAccessFile, target: RandomAccessFile): KernelPair | string {
  for (const file of [source, target]) {
    if (file.kind !== 'file' || file.fd === undefined) return `${file.path} is not a regular file`;
  }
  const native = nativeCalls();
  if (!native) return nativeUnavailableReason() ?? 'no native calls';
  return { native, sourceFd: source.fd as number, targetFd: target.fd as number };
}

export function assertWritable(target: RandomAccessFile): void {
  if (target.writable) return;
  throw new VhdkitError('READ_ONLY', `${target.path} is open for reading only`, {
    operation: 'write to target',
    context: { path: target.path },
  });
}

async function writePart(
  mover: RangeMover,
  request: OffloadWriteRequest,
  part: TokenPart,
): Promise<OffloadWriteResult> {
  const { target, targetOffset, signal } = request;
  if (part.kind === 'zero') {
    await target.zero(targetOffset, part.length);
    return { status: 'done', length: part.length };
  }
  const range: RangeMove = {
    source: part.file,
    sourceOffset: part.fileOffset,
    target,
    targetOffset,
    length: part.length,
  };
  if (signal) range.signal = signal;
  return moveTold(mover, range);
}

/** Keeps a token of the manager from expiring and from being evicted. @throws what `TokenManager.begin` throws */
export async function holdToken(manager: TokenManager, token: Token): Promise<HeldToken> {
  const { resolved, end } = await manager.begin(token);
  const source = resolved.kind === 'zero' ? undefined : { file: resolved.file, offset: resolved.offset };
  return { source, verifyUnchanged: () => manager.verifyUnchanged(token), release: end };
}

/** Whoever has to know what changes in the target is told, by whatever means it is done. */
async function moveTold(mover: RangeMover, range: RangeMove): Promise<OffloadWriteResult> {
  const changed = range.target.changing?.(range.targetOffset, range.length);
  try {
    return await mover.move(range);
  } finally {
    changed?.();
  }
}

/** Makes a provider of something that moves ranges. */
export function rangeProvider(manager: TokenManager, mover: RangeMover): OffloadProvider {
  return {
    id: mover.id,
    capabilities: (source, target) => mover.capabilities(source, target),
    offloadRead: async (file, range, options) => [await manager.bind(file, range, options)],
    async copyStep(step) {
      throwIfAborted(step.signal, 'copy');
      assertWritable(step.target);
      return moveTold(mover, step);
    },
    async offloadWrite(request) {
      throwIfAborted(request.signal, 'offload write');
      assertWritable(request.target);
      return manager.use(request.token, (resolved) =>
        writePart(mover, request, partOfToken(resolved, request.tokenOffset, request.length)),
      );
    },
    hold: (token) => holdToken(manager, token),
  };
}

/** What a kernel answers when it can't do a thing between two files, as opposed to failing at it. */
const UNSUPPORTED_ERRNOS: ReadonlySet<number> = new Set([
  Errno.EOPNOTSUPP,
  Errno.EXDEV,
  Errno.EINVAL,
  Errno.ENOTTY,
  Errno.ENOSYS,
  Errno.EPERM,
  Errno.ETXTBSY,
]);

export function isUnsupported(errno: number): boolean {
  return UNSUPPORTED_ERRNOS.has(errno);
}

/** What holds for all files of the two devices; the rest may be a matter of these two files (their flags). */
const DEVICE_ERRNOS: ReadonlySet<number> = new Set([
  Errno.EOPNOTSUPP,
  Errno.EXDEV,
  Errno.ENOTTY,
  Errno.ENOSYS,
]);

/** The answer to a kernel that can't do a thing between two files. */
export function unsupportedBy(errno: number): OffloadWriteResult {
  return unsupported(reasonOf(errno), DEVICE_ERRNOS.has(errno) ? 'devices' : 'files');
}

const REASONS = new Map<number, string>([
  [Errno.EXDEV, 'the files are on different file systems'],
  [Errno.EOPNOTSUPP, 'the file system does not offer it'],
  [Errno.ENOTTY, 'the file system does not offer it'],
  [Errno.ENOSYS, 'the kernel does not offer it'],
  [Errno.EPERM, 'the kernel forbids it for one of the files'],
  [Errno.ETXTBSY, 'one of the files is in use as swap space or program'],
]);

export function reasonOf(errno: number): string {
  return `${REASONS.get(errno) ?? 'the kernel refuses the range'} (${errnoName(errno)})`;
}

/** A failure that trying another provider would not cure, in Node's shape for `fromSystemError`. */
export function kernelError(errno: number, call: string): Error {
  return errnoError(errno, call);
}

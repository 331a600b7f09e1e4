/**
 * What is wrong with a request, before anything is done: one table for all commands.
 *
 * Error numbers as the specification asks ("Error values"): EPERM for changes of a read-only export, ENOSPC for writing
 * behind the end, EINVAL for everything else that a client should not have sent.
 */
import type { BlockDevice } from '../../block/block-device.js';
import type { WireError } from '../error-map.js';
import { Command, CommandFlag, Errno } from '../protocol.js';
import type { Request } from '../request.js';

/** Flags each command knows, besides FUA, which every one takes. */
const FLAGS: readonly (number | undefined)[] = [
  CommandFlag.DF,
  0,
  0,
  0,
  0,
  0,
  CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO,
  CommandFlag.REQ_ONE,
];

const INVALID: WireError = { errno: Errno.EINVAL, message: 'INVALID_ARGUMENT' };
const OUTSIDE: WireError = { errno: Errno.EINVAL, message: 'OUT_OF_RANGE' };
const BEHIND_END: WireError = { errno: Errno.ENOSPC, message: 'OUT_OF_RANGE' };
const READ_ONLY: WireError = { errno: Errno.EPERM, message: 'READ_ONLY' };

/** What the judgement depends on, besides the request. */
export interface Terms {
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  readonly structured: boolean;
  /** Meta contexts were chosen. */
  readonly contexts: boolean;
  /** Longest READ and WRITE in bytes. */
  readonly requestBytes: number;
}

function changes(type: number): boolean {
  return type === Command.WRITE || type === Command.TRIM || type === Command.WRITE_ZEROES;
}

/** Undefined: the request is in order. */
export function refusal(request: Request, terms: Terms): WireError | undefined {
  const { flags, type, offset, length } = request;
  const known = FLAGS[type];
  if (known === undefined || (flags & ~(known | CommandFlag.FUA)) !== 0) return INVALID;
  if (type === Command.FLUSH) return undefined;
  const { device } = terms;
  const changing = changes(type);
  if (changing && terms.readOnly) return READ_ONLY;
  if (length === 0) return INVALID;
  if (offset + length > device.size) return changing && type !== Command.TRIM ? BEHIND_END : OUTSIDE;
  if (device.blockSize > 1 && (offset % device.blockSize !== 0 || length % device.blockSize !== 0))
    return INVALID;
  return unavailable(request, terms) ? INVALID : undefined;
}

/** Whether it asks for what was not offered. */
function unavailable({ flags, type, length }: Request, terms: Terms): boolean {
  const { capabilities } = terms.device;
  switch (type) {
    case Command.READ:
      return length > terms.requestBytes || ((flags & CommandFlag.DF) !== 0 && !terms.structured);
    case Command.WRITE:
      return length > terms.requestBytes;
    case Command.TRIM:
      return !capabilities.trim;
    case Command.WRITE_ZEROES:
      return (flags & CommandFlag.FAST_ZERO) !== 0 && !capabilities.fastZero;
    case Command.BLOCK_STATUS:
      return !terms.contexts;
    default:
      return false;
  }
}

/** FLUSH, TRIM and WRITE_ZEROES: changes without payload. */
import { CommandFlag } from '../protocol.js';
import type { Request } from '../request.js';
import type { Session } from '../session.js';

export function startFlush(session: Session, request: Request): void {
  session.run(request, async () => {
    await session.device.flush();
    session.ok(request);
  });
}

export function startTrim(session: Session, request: Request): void {
  const durable = (request.flags & CommandFlag.FUA) !== 0;
  session.run(request, async () => {
    await session.device.trim(request.offset, request.length, { durable });
    session.ok(request);
  });
}

/** FAST_ZERO is decided by the device: quick, or refused before anything is changed. */
export function startWriteZeroes(session: Session, request: Request): void {
  const options = {
    durable: (request.flags & CommandFlag.FUA) !== 0,
    keepStorage: (request.flags & CommandFlag.NO_HOLE) !== 0,
    fast: (request.flags & CommandFlag.FAST_ZERO) !== 0,
  };
  session.run(request, async () => {
    await session.device.zero(request.offset, request.length, options);
    session.ok(request);
  });
}

import { describe, expect, it } from 'vitest';
import { fromSystemError, isVhdkitError, throwIfAborted, VhdkitError } from '../../../src/base/errors.js';

function system(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code });
}

describe('fromSystemError', () => {
  it.each([
    ['ENOENT', 'NOT_FOUND'],
    ['ENOSPC', 'NO_SPACE'],
    ['EDQUOT', 'NO_SPACE'],
    ['EACCES', 'PERMISSION_DENIED'],
    ['EBUSY', 'IN_USE'],
    ['EISDIR', 'NOT_A_DISK'],
    ['EFBIG', 'TARGET_TOO_SMALL'],
    ['EIO', 'IO_FAILED'],
  ])('maps %s to %s and keeps the cause', (errno, code) => {
    const cause = system(errno, `${errno}: what happened, read`);
    const error = fromSystemError(cause, 'read x.vhd', { path: 'x.vhd', offset: 5 });
    expect(error).toMatchObject({ code, context: { path: 'x.vhd', offset: 5 }, cause });
    expect(error.message).toBe(`Cannot read x.vhd: what happened (${errno})`);
  });

  it('lets its own kind pass unchanged', () => {
    const error = new VhdkitError('IMAGE_CORRUPT', 'x');
    expect(fromSystemError(error, 'read', {})).toBe(error);
  });
});

describe('VhdkitError', () => {
  it('is recognised by brand, also from another copy of the package', () => {
    expect(isVhdkitError(new VhdkitError('NO_SPACE', 'full'))).toBe(true);
    expect(isVhdkitError({ [Symbol.for('vhdkit.error')]: true })).toBe(true);
    expect(isVhdkitError(new Error('x'))).toBe(false);
    expect(isVhdkitError(undefined)).toBe(false);
  });

  it('reports cancellation with its reason', () => {
    const controller = new AbortController();
    expect(() => throwIfAborted(controller.signal, 'convert')).not.toThrow();
    controller.abort('stop');
    expect(() => throwIfAborted(controller.signal, 'convert')).toThrowError(
      expect.objectContaining({ code: 'CANCELLED', cause: 'stop' }),
    );
  });
});

/**
 * Reading what is in memory, and nothing else.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Errno, nativeCalls } from '../../../src/native/native.js';
import { testFolder } from '../../support/tmp.js';

const native = nativeCalls();

describe.skipIf(!native)('readCached (needs native calls)', () => {
  it('reads bytes that were just written, at any offset, and stops at the end of the file', () => {
    const file = path.join(testFolder(), 'file');
    fs.writeFileSync(file, Buffer.from(Array.from({ length: 10_000 }, (_, index) => index % 251)));
    const fd = fs.openSync(file, 'r');
    const buffer = Buffer.alloc(100);
    expect(native?.readCached(fd, buffer, 5000)).toBe(100);
    expect(buffer[0]).toBe(5000 % 251);
    expect(native?.readCached(fd, buffer, 4095)).toBe(100);
    expect(buffer[99]).toBe((4095 + 99) % 251);
    expect(native?.readCached(fd, buffer, 9990)).toBe(10);
    expect(native?.readCached(fd, buffer, 10_000)).toBe(0);
    fs.closeSync(fd);
  });

  it('answers "not now" for bytes that are only on storage', () => {
    const file = path.join(testFolder(), 'file');
    fs.writeFileSync(file, Buffer.alloc(4 * 1024 * 1024, 1));
    const fd = fs.openSync(file, 'r+');
    fs.fsyncSync(fd);
    native?.dropPageCache(fd);
    const answer = native?.readCached(fd, Buffer.alloc(4096), 2 * 1024 * 1024);
    // File systems that live in memory, or do not know the flag, answer otherwise.
    expect([-Errno.EAGAIN, -Errno.EOPNOTSUPP, 4096]).toContain(answer);
    fs.closeSync(fd);
  });

  it('says what is wrong with a descriptor', () => {
    expect(native?.readCached(9999, Buffer.alloc(16), 0)).toBe(-Errno.EBADF);
  });
});

describe.skipIf(!native)('startWriteback (needs native calls)', () => {
  it('accepts any range of a file, and leaves its content alone', async () => {
    const file = path.join(testFolder(), 'file');
    fs.writeFileSync(file, Buffer.alloc(100_000, 7));
    const fd = fs.openSync(file, 'r+');
    expect(await native?.startWriteback(fd, 0, 65_536)).toBe(0);
    expect(await native?.startWriteback(fd, 1_000_000, 10)).toBe(0);
    fs.closeSync(fd);
    expect(fs.readFileSync(file).equals(Buffer.alloc(100_000, 7))).toBe(true);
  });
});

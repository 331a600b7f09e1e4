/** Dropping a file's pages from memory, judged by the system's own count of them. */
import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { Errno, nativeCalls } from '../../../src/native/native.js';
import { lacking } from '../../support/requires.js';
import { mustSync } from '../../support/run.js';
import { testFolder } from '../../support/tmp.js';

const native = nativeCalls();
const MiB = 1024 ** 2;
const lacks = lacking('fincore');

/** Bytes of the file that are in memory. */
function cached(file: string): number {
  return Number(mustSync('fincore', ['--bytes', '--noheadings', '--output', 'RES', file]));
}

test.skipIf(!native || lacks)(`pages that were flushed leave memory${lacks}`, ({ skip }) => {
  const file = path.join(testFolder('cache'), 'file');
  const fd = openSync(file, 'w+');
  try {
    writeSync(fd, Buffer.alloc(4 * MiB, 1));
    fsyncSync(fd);
    expect(cached(file)).toBe(4 * MiB);
    expect(native?.dropPageCache(fd)).toBe(0);
    // On tmpfs memory is where the file is.
    if (mustSync('stat', ['-f', '-c', '%T', file]).trim() === 'tmpfs') skip();
    expect(cached(file)).toBe(0);
  } finally {
    closeSync(fd);
  }
});

test.skipIf(!native)('a descriptor that is not open is answered with its errno', () => {
  expect(native?.dropPageCache(100_000)).toBe(Errno.EBADF);
});

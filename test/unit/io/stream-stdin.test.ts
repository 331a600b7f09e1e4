/** Reading a pipe into one buffer: nothing lost, nothing kept waiting, an end in every case. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readPipe } from '../../../src/io/stream-stdin.js';
import { seededBytes } from '../../support/sample-disk.js';
import { testFolder } from '../../support/tmp.js';

interface Ends {
  reader: number;
  writer: fs.WriteStream;
}

function makePipe(): Ends {
  const name = path.join(testFolder(), 'pipe');
  execFileSync('mkfifo', [name]);
  // Opened for both, which never waits for the other side; the reader must find a writer.
  const both = fs.openSync(name, 'r+');
  const reader = fs.openSync(name, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  const writer = fs.createWriteStream(name, { fd: both });
  return { reader, writer };
}

describe.skipIf(process.platform === 'win32')('a pipe', () => {
  it.each([
    ['at once', 0],
    ['slowly', 3],
  ])('gives everything in order when it is read %s', async (_, wait) => {
    const { reader, writer } = makePipe();
    const bytes = seededBytes(3_000_001, 5);
    writer.end(bytes);
    const chunks: Buffer[] = [];
    for await (const chunk of readPipe(reader, new AbortController().signal)) {
      if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
      // Copied late: until the next step the chunk must stay as it is.
      chunks.push(Buffer.from(chunk));
    }
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
  });

  it('that ends without bytes ends the loop', async () => {
    const { reader, writer } = makePipe();
    writer.end();
    for await (const chunk of readPipe(reader, new AbortController().signal)) expect(chunk).toBeUndefined();
  });

  it('that stands still is left when asked to stop', async () => {
    const { reader, writer } = makePipe();
    writer.write('a');
    const controller = new AbortController();
    let count = 0;
    for await (const chunk of readPipe(reader, controller.signal)) {
      count += chunk.length;
      setTimeout(() => controller.abort(), 20);
    }
    expect(count).toBe(1);
    writer.end();
  });

  it('is closed when its reader stops early', async () => {
    const { reader, writer } = makePipe();
    writer.write('a');
    for await (const _ of readPipe(reader, new AbortController().signal)) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(() => fs.fstatSync(reader)).toThrow(/EBADF/);
    writer.end();
  });
});

it('a file is no pipe', async () => {
  const name = path.join(testFolder(), 'file');
  fs.writeFileSync(name, 'x');
  const fd = fs.openSync(name, 'r');
  const chunks = readPipe(fd, new AbortController().signal);
  await expect(chunks.next()).rejects.toMatchObject({ code: 'ERR_INVALID_FD_TYPE' });
  fs.closeSync(fd);
});

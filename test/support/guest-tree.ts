/**
 * Files for guest file systems: filling one so that its free space is in many pieces, and telling whether
 * everything is still there after what was called free has been overwritten.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { seededBytes } from './sample-disk.js';

/** An empty image file. */
export function sparseFile(file: string, bytes: number): void {
  writeFileSync(file, '');
  truncateSync(file, bytes);
}

/** Small files of many sizes, folders, and a larger file that has to go into the holes of deleted ones. */
export function fillWithHoles(folder: string, files: number, largest: number): void {
  const name = (index: number) => path.join(folder, index % 3 === 0 ? 'sub' : '', `file${index}`);
  mkdirSync(path.join(folder, 'sub', 'deeper'), { recursive: true });
  for (let index = 0; index < files; index += 1)
    writeFileSync(name(index), seededBytes(1 + ((index * 7919) % largest), index));
  for (let index = 0; index < files; index += 2) rmSync(name(index));
  writeFileSync(path.join(folder, 'sub', 'deeper', 'in the holes'), seededBytes((files * largest) / 8, 99));
  writeFileSync(path.join(folder, 'empty'), '');
}

/** Name and hash of every file below a folder, in order. */
export function hashesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(path.join(folder, name)).isFile())
    .map(
      (name) =>
        `${name} ${createHash('sha256')
          .update(readFileSync(path.join(folder, name)))
          .digest('hex')}`,
    )
    .sort();
}

/** Overwrites ranges of a file with rubbish. */
export function overwrite(file: string, ranges: readonly [number, number][]): void {
  const rubbish = Buffer.alloc(1024 * 1024, 0xa5);
  const descriptor = openSync(file, 'r+');
  try {
    for (const [offset, length] of ranges)
      for (let done = 0; done < length; done += rubbish.length)
        writeSync(descriptor, rubbish, 0, Math.min(rubbish.length, length - done), offset + done);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Names for files and the devices that they are on, for remembering things about them in this process.
 *
 * Invariants: of two open files of one device the device key is the same; keys say nothing outside this
 * process, and do not outlive it. What has no identity (memory) is a device of its own.
 */
import type { RandomAccessFile } from '../io/random-access-file.js';

interface Keys {
  device: string;
  file: string;
}

const known = new WeakMap<RandomAccessFile, Keys>();
let unnamed = 0;

function keysOf(file: RandomAccessFile): Keys {
  const keys = known.get(file);
  if (keys) return keys;
  const made = makeKeys(file);
  known.set(file, made);
  return made;
}

function makeKeys(file: RandomAccessFile): Keys {
  if (file.kind === 'device') return { device: `block ${file.path}`, file: `block ${file.path}` };
  const print = file.fingerprint();
  if (!print) {
    unnamed += 1;
    return { device: `unnamed ${unnamed}`, file: `unnamed ${unnamed}` };
  }
  // With the path: the numbers of files that are gone are given to others soon.
  return { device: `${print.device}`, file: `${print.device} ${print.inode} ${file.path}` };
}

export function deviceKey(file: RandomAccessFile): string {
  return keysOf(file).device;
}

export function fileKey(file: RandomAccessFile): string {
  return keysOf(file).file;
}

/**
 * Other programs that hold a file: found in what Linux tells of locks, open descriptors and loop devices.
 *
 * Invariants: what is reported is so at that moment; that nothing is reported proves nothing (processes of
 * other users and other machines can't be seen). A /proc that can't be read never stops work. The own
 * process does not count, and neither does a program that merely reads.
 *
 * Not here: vhdkit's own locks (lock-file.ts); block devices, which the kernel guards itself (O_EXCL).
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename } from 'node:path';
import { VhdkitError } from '../base/errors.js';
import { type FileIdentity, type Holder, holderText } from './file-system.js';

/** What of another program is in the way: that it writes, or also that it locked writers out. */
export type Concern = 'writes' | 'writes or forbids writing';

/** Most descriptors looked at: about a second of work. */
const MAX_DESCRIPTORS = 200_000;
/** Milliseconds. */
const MAX_AGE = 200;
const MAX_LOOP_DEVICES = 4096;
const LOOP_DEVICE = 'the loop device ';

const O_ACCMODE = 0o3;
const O_PATH = 0o10000000;

/**
 * Bytes by which QEMU says what it does with an image (100 + n) and what others must not do (200 + n), each
 * for n = 1 (writing) and n = 3 (resizing). Source: QEMU block/file-posix.c, RAW_LOCK_PERM_BASE, and
 * include/block/block-common.h, BLK_PERM_*.
 */
const QEMU_RANGE = { first: 100, last: 299 };
const QEMU_WRITES = [101, 103];
const QEMU_FORBIDS = [201, 203];

export interface FileLock {
  exclusive: boolean;
  /** 0 where the lock belongs to a descriptor and not to a process (OFD). */
  pid: number;
  /** Major and minor number, as text: `fe:00`. */
  device: string;
  inode: bigint;
  /** First and last byte. */
  start: number;
  end: number;
}

const LOCK_LINE =
  /^(?:lock:\s*)?\d+:\s+(?:POSIX|OFDLCK|FLOCK)\s+(?:ADVISORY|MANDATORY)\s+(READ|WRITE)\s+(-?\d+)\s+([0-9a-f]+:[0-9a-f]+):(\d+)\s+(\d+)\s+(\d+|EOF)\s*$/;

/**
 * One line of /proc/locks or of the locks in /proc/PID/fdinfo; undefined for those that wait, for leases and
 * for everything else. Source: proc_locks(5), fs/locks.c lock_get_status.
 */
export function parseLockLine(text: string): FileLock | undefined {
  const [, kind, pid, device, inode, start, end] = LOCK_LINE.exec(text) ?? [];
  if (kind === undefined || device === undefined || inode === undefined) return undefined;
  return {
    exclusive: kind === 'WRITE',
    pid: Math.max(0, Number(pid)),
    device,
    inode: BigInt(inode),
    start: Number(start),
    end: end === 'EOF' ? Number.POSITIVE_INFINITY : Number(end),
  };
}

/** True when a lock says that its owner writes, or (as far as it matters) that nobody else may. */
export function isInTheWay(lock: FileLock, concern: Concern): boolean {
  const covers = (byte: number): boolean => lock.start <= byte && byte <= lock.end;
  const isQemu = lock.start >= QEMU_RANGE.first && lock.end <= QEMU_RANGE.last;
  const writes = isQemu ? QEMU_WRITES.some(covers) : lock.exclusive;
  const forbids = isQemu ? QEMU_FORBIDS.some(covers) : true;
  return writes || (concern !== 'writes' && forbids);
}

/** The answer, or undefined when the system does not want to give it. */
function tolerant<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

function linesOf(path: string): string[] {
  return tolerant(() => readFileSync(path, 'utf8').split('\n')) ?? [];
}

/** The device number of stat as the kernel prints it in lists of locks. */
function deviceText(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  return [major, minor].map((number) => number.toString(16).padStart(2, '0')).join(':');
}

/** Locks on a file's inode number. File systems with subvolumes show other device numbers here than stat. */
function locksOn(inode: bigint): FileLock[] {
  return linesOf('/proc/locks').flatMap((line) => {
    const lock = parseLockLine(line);
    return lock && lock.inode === inode && lock.pid !== process.pid ? [lock] : [];
  });
}

function commandOf(pid: number): string | undefined {
  return linesOf(`/proc/${pid}/comm`)[0] || undefined;
}

function processHolder(pid: number): Holder {
  const command = commandOf(pid);
  return { pid, host: hostname() || 'localhost', ...(command ? { command } : {}) };
}

interface Descriptor {
  pid: number;
  writable: boolean;
  locks: FileLock[];
}

/** Paths of everything that other processes have open, `/proc/PID/fd/N` to target. */
function openFiles(): Map<string, string> {
  const files = new Map<string, string>();
  let left = MAX_DESCRIPTORS;
  for (const pid of tolerant(() => readdirSync('/proc')) ?? []) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    for (const fd of tolerant(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
      left -= 1;
      if (left < 0) return files;
      const link = `/proc/${pid}/fd/${fd}`;
      const target = tolerant(() => readlinkSync(link));
      if (target?.startsWith('/')) files.set(link, target);
    }
  }
  return files;
}

let lastLook: { at: number; files: Map<string, string> } | undefined;

/** The same, up to `age` milliseconds old: the images of a long chain are asked for one after the other. */
function recentOpenFiles(age: number): Map<string, string> {
  const now = performance.now();
  if (!lastLook || now - lastLook.at >= age) lastLook = { at: now, files: openFiles() };
  return lastLook.files;
}

/** Descriptors of other processes that are open on the file. `name`: only those opened under this name. */
function* descriptorsOn(
  file: FileIdentity,
  name: string | undefined,
  files: Map<string, string>,
): Generator<Descriptor> {
  for (const [link, target] of files) {
    if (name !== undefined && basename(target) !== name) continue;
    const stat = tolerant(() => statSync(link, { bigint: true }));
    if (stat?.ino !== file.inode || stat.dev !== file.device) continue;
    const lines = linesOf(link.replace('/fd/', '/fdinfo/'));
    const flags = Number.parseInt(/^flags:\s*(\d+)$/m.exec(lines.join('\n'))?.[1] ?? '0', 8);
    const locks = lines.flatMap((line) => parseLockLine(line) ?? []);
    const writable = (flags & O_ACCMODE) !== 0 && (flags & O_PATH) === 0;
    yield { pid: Number(link.split('/')[2]), writable, locks };
  }
}

function descriptorHolder(
  file: FileIdentity,
  name: string | undefined,
  concern: Concern,
): Holder | undefined {
  // Whoever is about to write looks anew, and so does whoever knows that there is something to find.
  const files = recentOpenFiles(concern === 'writes' && name !== undefined ? MAX_AGE : 0);
  for (const { pid, writable, locks } of descriptorsOn(file, name, files)) {
    if (writable || locks.some((lock) => isInTheWay(lock, concern))) return processHolder(pid);
  }
  return undefined;
}

/** A loop device over the file: the kernel holds it, no process does. */
function loopHolder(path: string, concern: Concern): Holder | undefined {
  const devices = (tolerant(() => readdirSync('/sys/block')) ?? []).filter((name) => /^loop\d+$/.test(name));
  for (const device of devices.slice(0, MAX_LOOP_DEVICES)) {
    const backing = linesOf(`/sys/block/${device}/loop/backing_file`)[0];
    if (backing !== path) continue;
    const readOnly = linesOf(`/sys/block/${device}/ro`)[0] === '1';
    if (readOnly && concern === 'writes') continue;
    return { pid: 0, host: hostname() || 'localhost', command: `${LOOP_DEVICE}/dev/${device}` };
  }
  return undefined;
}

/**
 * Another program that has the file open in a way that concerns us; undefined where none is known.
 * @param path real path of a regular file
 */
export function foreignHolder(path: string, concern: Concern): Holder | undefined {
  if (process.platform !== 'linux') return undefined;
  const stat = tolerant(() => statSync(path, { bigint: true }));
  if (!stat?.isFile()) return undefined;
  const file = { device: stat.dev, inode: stat.ino };
  const found = loopHolder(path, concern) ?? descriptorHolder(file, basename(path), concern);
  if (found) return found;
  // A container may have it under another name, which is worth a longer look only where there is a lock.
  const locks = locksOn(file.inode).filter((lock) => isInTheWay(lock, concern));
  if (locks.length === 0) return undefined;
  return descriptorHolder(file, undefined, concern) ?? hiddenHolder(locks, file);
}

/** The owner of a lock whose descriptors we may not see. */
function hiddenHolder(locks: readonly FileLock[], file: FileIdentity): Holder | undefined {
  const lock = locks.find(({ device }) => device === deviceText(file.device));
  if (!lock) return undefined;
  if (lock.pid !== 0) return processHolder(lock.pid);
  return { pid: 0, host: hostname() || 'localhost', command: 'a program of another user' };
}

/** The refusal. */
export function heldBy(path: string, holder: Holder): VhdkitError {
  return new VhdkitError('IN_USE', `${path} is in use by ${holderText(holder)}`, {
    operation: 'lock',
    context: {
      path,
      pid: holder.pid,
      host: holder.host,
      ...(holder.command ? { command: holder.command } : {}),
    },
    hint: holder.command?.startsWith(LOOP_DEVICE)
      ? `Unmount what is on it and detach it: losetup -d ${holder.command.slice(LOOP_DEVICE.length)}.`
      : 'Stop the virtual machine or the program that has it open, then try again.',
  });
}

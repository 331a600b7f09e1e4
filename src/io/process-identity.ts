/**
 * Who this process is, for others that share what it leaves behind, and whether such a process still runs.
 *
 * Invariant: a process is said to have ended only when that is certain: it ran on this start of this system,
 * among the process ids that are seen from here, and its id is free or belongs to a process that began at
 * another time. Of everything else nothing is known from here.
 *
 * Sources: Linux proc(5): /proc/sys/kernel/random/boot_id, /proc/PID/stat (field 22), /proc/PID/ns/pid.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { systemCode } from '../base/errors.js';
import { bootId } from './unsynced-mark.js';

/** A process, as others can find it. */
export interface ProcessName {
  /** Where the id means something: one start of one system, and one namespace of process ids. */
  host: string;
  pid: number;
  /** When it began, in the system's own unit: tells it from a later process with the same id. */
  started?: string;
}

export interface ProcessIdentity {
  readonly self: ProcessName;
  /**
   * Within this, numbers of devices and files mean the same: one start of one system. Undefined where nothing
   * tells starts apart.
   */
  readonly system: string | undefined;
  /** True when it is certain that the process has ended. */
  hasEnded(process: ProcessName): boolean;
}

/** Field 22 of /proc/PID/stat: when the process began, in clock ticks since the system began. */
function startOf(pid: number | 'self'): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is a name in parentheses, which may hold anything.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function pidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

let identity: ProcessIdentity | undefined;

/** This process; asked of the system once. */
export function processIdentity(): ProcessIdentity {
  if (identity) return identity;
  const boot = bootId();
  // Enough of it: it goes into every record.
  const system = boot?.slice(0, 18);
  const host = boot === undefined ? hostname() : `${boot} ${pidNamespace()}`;
  const started = startOf('self');
  identity = {
    self: { host, pid: process.pid, ...(started === undefined ? {} : { started }) },
    system,
    hasEnded(other) {
      // By name alone, another host could be mistaken for this one.
      if (system === undefined || other.host !== host) return false;
      if (!Number.isSafeInteger(other.pid) || other.pid <= 0) return false;
      if (!runs(other.pid)) return true;
      const now = startOf(other.pid);
      return other.started !== undefined && now !== undefined && now !== other.started;
    },
  };
  return identity;
}

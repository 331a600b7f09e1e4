/**
 * What operations need of the machine, injected by whoever calls them.
 */
import { type Clock, systemClock } from '../base/clock.js';
import { type RandomSource, systemRandom } from '../base/random.js';
import { systemTimer, type Timer } from '../base/timer.js';
import type { FileSystem } from '../io/file-system.js';
import { nodeFileSystem } from '../io/node-file-system.js';
import type { ProcessIdentity } from '../io/process-identity.js';
import { FailedPairs } from '../offload/failed-pairs.js';
import { LatencyMemory } from '../offload/latency.js';

export interface Host {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly timer: Timer;
  /** Who this process is to others; default: asked of the system. */
  readonly process?: ProcessIdentity;
  /** What providers could not do between which devices. Default: every session finds out by itself. */
  readonly failedPairs?: FailedPairs;
  /** How quick providers are between which devices. */
  readonly latency?: LatencyMemory;
}

/** One for the process. */
const memory = { failedPairs: new FailedPairs(systemTimer), latency: new LatencyMemory(systemTimer) };

/** The real machine. */
export function systemHost(): Host {
  const host = { fileSystem: nodeFileSystem, clock: systemClock, random: systemRandom, timer: systemTimer };
  return { ...host, ...memory };
}

/** Reports how far long work has got. */
export interface ProgressSink {
  /** True for a sink that wants `work`: finding it out beforehand costs a walk over the tables. */
  readonly estimates?: boolean;
  /** Bytes done of the total, in units of the virtual disk; called often, must be cheap. */
  update(done: number, total: number, work?: Work): void;
}

/** Bytes that cost time, because they are read or copied; what is shared or zero costs next to none. */
export interface Work {
  done: number;
  /** An estimate until everything is done; never less than `done`. */
  total: number;
}

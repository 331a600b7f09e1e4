/**
 * What operations need of the machine, injected by whoever calls them.
 */
import { type Clock, systemClock } from '../base/clock.js';
import { type RandomSource, systemRandom } from '../base/random.js';
import type { FileSystem } from '../io/file-system.js';
import { nodeFileSystem } from '../io/node-file-system.js';

export interface Host {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
}

/** The real machine. */
export function systemHost(): Host {
  return { fileSystem: nodeFileSystem, clock: systemClock, random: systemRandom };
}

/** Reports how far long work has got. */
export interface ProgressSink {
  /** Bytes done of the total, in units of the virtual disk; called often, must be cheap. */
  update(done: number, total: number): void;
}

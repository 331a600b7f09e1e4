/**
 * Time, injected: nothing below cli/ asks the system for the time except through a Clock.
 */

export interface Clock {
  /** Milliseconds since 1970-01-01 UTC. */
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };

/**
 * Requests under way, by range: so that somebody can wait for exactly those that are in the way, and nobody
 * else waits for anything.
 *
 * Entering and leaving are synchronous and cost next to nothing while nobody waits.
 */

/** One request under way. */
export interface Flight {
  readonly start: number;
  readonly end: number;
}

interface OpenFlight extends Flight {
  /** Where it stands in the list; −1: landed. */
  index: number;
  landed: Promise<void> | undefined;
  land: (() => void) | undefined;
}

function landing(flight: OpenFlight): Promise<void> {
  flight.landed ??= new Promise((resolve) => {
    flight.land = resolve;
  });
  return flight.landed;
}

export class Flights {
  /** In no order. */
  readonly #open: OpenFlight[] = [];

  get size(): number {
    return this.#open.length;
  }

  enter(start: number, end: number): Flight {
    const flight: OpenFlight = { start, end, index: this.#open.length, landed: undefined, land: undefined };
    this.#open.push(flight);
    return flight;
  }

  leave(flight: Flight): void {
    const open = flight as OpenFlight;
    const { index } = open;
    if (index < 0) return;
    open.index = -1;
    const last = this.#open.pop();
    if (last !== undefined && last !== open) {
      last.index = index;
      this.#open[index] = last;
    }
    open.land?.();
  }

  /** Resolves when those that are under way now and overlap the range have ended; undefined when there are none. */
  overlapping(start: number, end: number): Promise<unknown> | undefined {
    let waits: Promise<void>[] | undefined;
    for (const flight of this.#open) {
      if (flight.start >= end || flight.end <= start) continue;
      waits ??= [];
      waits.push(landing(flight));
    }
    return waits && Promise.all(waits);
  }

  /** Resolves when all that are under way now have ended. */
  async settled(): Promise<void> {
    await Promise.all(this.#open.map(landing));
  }
}

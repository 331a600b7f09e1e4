/**
 * Decides whether what two volumes over one base showed is legal: linearizability, sector by sector.
 *
 * The model of a sector is a pair of values. A write through the preserved volume (or through the front door
 * before the volumes parted) sets both; a write through the live volume sets the live one. A read answers with the
 * value of its volume. A history is legal when its operations can be put into an order in which each takes
 * effect at one moment between its start and its end, and every read answers what the model says.
 *
 * Sectors are independent: nothing promises that a request of several sectors takes effect as one.
 */

export interface SectorOperation {
  kind: 'write' | 'read';
  volume: 'live' | 'preserved';
  value: number;
  /** Logical time: no two events share one. */
  start: number;
  /** Infinity: never answered, so it may have taken effect or not. */
  end: number;
}

interface Pair {
  live: number;
  preserved: number;
}

/** The pair after the operation; undefined when it can't happen now. */
function step(pair: Pair, { kind, volume, value }: SectorOperation): Pair | undefined {
  if (kind === 'read') return pair[volume] === value ? pair : undefined;
  return volume === 'live' ? { ...pair, live: value } : { live: value, preserved: value };
}

/** True when there is an order that explains everything. At most 30 operations. */
export function isLegal(operations: readonly SectorOperation[], initial: number): boolean {
  if (operations.length > 30) throw new Error(`${operations.length} operations on one sector are too many`);
  const answered = operations.reduce(
    (mask, operation, index) => (operation.end === Number.POSITIVE_INFINITY ? mask : mask | (1 << index)),
    0,
  );
  const dead = new Set<string>();
  const search = (done: number, pair: Pair): boolean => {
    if ((done & answered) === answered) return true;
    const key = `${done}/${pair.live}/${pair.preserved}`;
    if (dead.has(key)) return false;
    let earliestEnd = Number.POSITIVE_INFINITY;
    for (const [index, { end }] of operations.entries()) {
      if ((done & (1 << index)) === 0) earliestEnd = Math.min(earliestEnd, end);
    }
    for (const [index, operation] of operations.entries()) {
      // Whatever ended before this one began must come first.
      if ((done & (1 << index)) !== 0 || operation.start > earliestEnd) continue;
      const next = step(pair, operation);
      if (next && search(done | (1 << index), next)) return true;
    }
    dead.add(key);
    return false;
  };
  return search(0, { live: initial, preserved: initial });
}

export interface Recorded {
  kind: 'write' | 'read';
  volume: 'live' | 'preserved';
  /** Index of the first sector. */
  sector: number;
  /** One for each sector. */
  values: number[];
  start: number;
  end: number;
}

/** Sectors whose history is illegal. */
export function illegalSectors(history: readonly Recorded[], sectors: number, initial: number): number[] {
  const bad: number[] = [];
  for (let sector = 0; sector < sectors; sector += 1) {
    const operations: SectorOperation[] = [];
    for (const { kind, volume, sector: first, values, start, end } of history) {
      const value = values[sector - first];
      if (sector < first || value === undefined) continue;
      operations.push({ kind, volume, value, start, end });
    }
    if (!isLegal(operations, initial)) bad.push(sector);
  }
  return bad;
}

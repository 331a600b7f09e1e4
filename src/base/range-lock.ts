/**
 * Locks on ranges of a number line: many readers or one writer for every point, first come first served.
 *
 * Invariants: nobody overtakes an earlier request that it overlaps with (unless both share), so nobody starves; ranges that
 * do not overlap never wait for each other. A request is one contiguous range and is granted whole, so there
 * is no deadlock between holders of one range each. Whoever holds one and asks for another must ask in
 * ascending order.
 *
 * Lives in memory, apart from what it protects.
 */

interface Claim {
  readonly start: number;
  readonly end: number;
  readonly shared: boolean;
  /** Earlier claims in the way. */
  blockers: number;
  /** Later claims that wait for this one. */
  readonly waiting: Claim[];
  grant: (() => void) | undefined;
}

function conflict(a: Claim, b: Claim): boolean {
  return a.start < b.end && b.start < a.end && !(a.shared && b.shared);
}

export class RangeLock {
  /** In the order in which they came, granted or not. */
  readonly #claims = new Set<Claim>();

  /** Claims that are held or waited for. */
  get size(): number {
    return this.#claims.size;
  }

  /** Whether a claim would be granted at once. */
  isFree(offset: number, length: number, mode: 'shared' | 'exclusive'): boolean {
    const asked = { start: offset, end: offset + length, shared: mode === 'shared' } as Claim;
    for (const claim of this.#claims) if (conflict(claim, asked)) return false;
    return true;
  }

  /** Resolves when the range is held; the answer gives it back (calling it twice is harmless). */
  async take(offset: number, length: number, mode: 'shared' | 'exclusive'): Promise<() => void> {
    const claim: Claim = {
      start: offset,
      end: offset + length,
      shared: mode === 'shared',
      blockers: 0,
      waiting: [],
      grant: undefined,
    };
    for (const earlier of this.#claims) {
      if (!conflict(earlier, claim)) continue;
      earlier.waiting.push(claim);
      claim.blockers += 1;
    }
    this.#claims.add(claim);
    if (claim.blockers > 0) {
      await new Promise<void>((resolve) => {
        claim.grant = resolve;
      });
    }
    return () => this.#release(claim);
  }

  /** Holds the range while `work` runs. */
  async hold<T>(
    offset: number,
    length: number,
    mode: 'shared' | 'exclusive',
    work: () => Promise<T>,
  ): Promise<T> {
    const release = await this.take(offset, length, mode);
    try {
      return await work();
    } finally {
      release();
    }
  }

  #release(claim: Claim): void {
    if (!this.#claims.delete(claim)) return;
    for (const later of claim.waiting) {
      later.blockers -= 1;
      if (later.blockers === 0) later.grant?.();
    }
  }
}

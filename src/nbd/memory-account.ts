/**
 * Who holds how many bytes of payload: an account per connection over one budget of the server.
 *
 * Invariants: every account may hold `reserve` bytes whatever the others do; what goes beyond comes from the
 * budget, which is never overdrawn. Accounts that the budget could not serve are served in the order they came,
 * so a large request is not overtaken for ever by small ones.
 *
 * Counts only; the memory itself is the business of whoever takes it.
 */

export class MemoryBudget {
  readonly #limit: number;
  #used = 0;
  /** Accounts to be told when there is room, in order. */
  readonly #waiting = new Set<MemoryAccount>();
  #scheduled = false;

  /** `limit`: bytes beyond the reserves that all accounts together may hold. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** Whether somebody has to wait for what others hold. */
  get isShort(): boolean {
    return this.#waiting.size > 0;
  }

  /** For accounts. `change` may be negative. */
  claim(account: MemoryAccount, change: number): boolean {
    if (change <= 0) {
      this.#used += change;
      if (change < 0) this.#schedule();
      return true;
    }
    const [first] = this.#waiting;
    const mayGo = first === undefined || first === account;
    if (!mayGo || this.#used + change > this.#limit) {
      this.#waiting.add(account);
      return false;
    }
    this.#used += change;
    return true;
  }

  /** For accounts that end, or that do not want it any more. */
  forget(account: MemoryAccount): void {
    if (this.#waiting.delete(account)) this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiting.size === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      for (const account of [...this.#waiting]) {
        account.room();
        // Still waiting: there was not enough for it, and nobody overtakes.
        if (this.#waiting.has(account)) break;
      }
    });
  }
}

export class MemoryAccount {
  readonly #budget: MemoryBudget;
  readonly #reserve: number;
  readonly #limit: number;
  readonly #onRoom: () => void;
  #held = 0;
  #shared = 0;
  #isWaiting = false;
  #isClosed = false;

  /**
   * `reserve`: bytes it may hold in any case; `limit`: bytes it may hold at most. `onRoom` is called, not from within
   * `take`, when what the budget refused may be tried again, at once; who does not want it any more says `withdraw`.
   */
  constructor(budget: MemoryBudget, reserve: number, limit: number, onRoom: () => void) {
    this.#budget = budget;
    this.#reserve = reserve;
    this.#limit = limit;
    this.#onRoom = onRoom;
  }

  /** Bytes. */
  get held(): number {
    return this.#held;
  }

  /** False: not now; nothing was taken. A request larger than the limit gets through when nothing else is held. */
  take(bytes: number): boolean {
    if (this.#held + bytes > this.#limit && this.#held > 0) return false;
    const shared = Math.max(0, this.#held + bytes - this.#reserve);
    if (shared > this.#shared && !this.#budget.claim(this, shared - this.#shared)) {
      this.#isWaiting = true;
      return false;
    }
    this.#held += bytes;
    this.#shared = shared;
    // It may have waited, and got through without the budget after all.
    this.withdraw();
    return true;
  }

  give(bytes: number): void {
    this.#held -= bytes;
    const shared = Math.max(0, this.#held - this.#reserve);
    if (shared < this.#shared) this.#budget.claim(this, shared - this.#shared);
    this.#shared = shared;
  }

  /** For the budget. */
  room(): void {
    if (!this.#isClosed) this.#onRoom();
  }

  /** What was refused is not wanted any more. */
  withdraw(): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#budget.forget(this);
  }

  /** No more is taken; what is held is still given back by `give`. */
  close(): void {
    this.#isClosed = true;
    this.withdraw();
  }
}

/**
 * What a manager and its store tell each other of a token that is known here: that it is used, and how it stands.
 *
 * Invariant: a binding's record is what the store had when it was last asked; a change that somebody else made
 * is taken over, never undone.
 */
import type { TokenStore } from './store/token-store.js';
import type { Binding } from './token-binding.js';
import { ended } from './token-refusal.js';
import { type EndReason, endedAs, stateOf } from './token-standing.js';

/** Milliseconds for which a use is believed to go on without a sign of life. */
export const LEASE = 15_000;
/** Somebody wins every round. */
const MAX_ROUNDS = 200;

export class TokenRenewal {
  readonly #store: TokenStore;

  constructor(store: TokenStore) {
    this.#store = store;
  }

  /** Whether it is time to tell the store about a use. */
  isDue({ leases, stored, record }: Binding, now: number): boolean {
    return now - stored > (leases > 0 ? LEASE / 3 : record.ttl / 4);
  }

  /**
   * Tells the store about the use: nobody elsewhere must take a token that is in use.
   * @param fresh a use that begins, which ends with a token that is to leave
   * @throws TOKEN_INVALID, TOKEN_EXPIRED when it ended meanwhile
   */
  async renew(binding: Binding, now: number, fresh: boolean): Promise<void> {
    binding.stored = now;
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const { record } = binding;
      // Never the same as anybody else's, who would take it for his own when he gives it back.
      const usedUntil = Math.max(now + LEASE, (record.usedUntil ?? 0) + 1);
      const lease: { usedUntil?: number } = binding.leases > 0 ? { usedUntil } : {};
      const updated = { ...record, lastUsed: Math.max(now, record.lastUsed), ...lease };
      const revision = await this.#store.update(updated, binding.revision);
      if (revision !== undefined) {
        if (lease.usedUntil !== undefined) binding.ownUntil = lease.usedUntil;
        binding.revision = revision;
        binding.record = updated;
        return;
      }
      if (!(await this.look(binding))) binding.record = endedAs(record, 'revoked');
      const state = stateOf(binding.record, now);
      if (state !== 'valid' && (fresh || binding.record.revoked)) throw ended(binding.record, state, now);
    }
  }

  /**
   * Tells the store that a use has ended, unless others use the token too: then it is believed to go on for a few
   * seconds more.
   */
  async giveBack(binding: Binding, now: number): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const { record, ownUntil, othersUntil } = binding;
      if (binding.leases > 0 || record.revoked || ownUntil < now || record.usedUntil !== ownUntil) break;
      const updated = { ...record, usedUntil: Math.max(othersUntil, now - 1) };
      const revision = await this.#store.update(updated, binding.revision);
      if (revision !== undefined) {
        binding.record = updated;
        binding.revision = revision;
        break;
      }
      if (!(await this.look(binding))) break;
    }
    if (binding.leases === 0) binding.ownUntil = 0;
  }

  /**
   * Of a token whose time seems to be over: others who use it keep it alive, and only the store knows.
   * @throws TOKEN_INVALID, TOKEN_EXPIRED
   */
  async assertAlive(binding: Binding, now: number): Promise<void> {
    const there = await this.look(binding);
    const state = stateOf(binding.record, now);
    if (there && state === 'valid') return;
    // What the store has forgotten was over.
    throw ended(binding.record, state === 'valid' ? 'expired' : state, now);
  }

  /** How a token ended by what the store says; undefined while it lives. */
  async endOf({ record }: Binding, now: number): Promise<EndReason | undefined> {
    const stored = await this.#store.get(record.id);
    if (stored && !stored.record.revoked) return undefined;
    const state = stored ? stateOf(stored.record, now) : 'revoked';
    return state === 'valid' || state === 'leaving' ? 'revoked' : state;
  }

  /** Takes over what the store has; false when it has nothing. */
  async look(binding: Binding): Promise<boolean> {
    const stored = await this.#store.get(binding.record.id);
    if (!stored) return false;
    const { usedUntil = 0 } = stored.record;
    if (usedUntil !== binding.ownUntil) binding.othersUntil = usedUntil;
    binding.record = stored.record;
    binding.revision = stored.revision;
    return true;
  }
}

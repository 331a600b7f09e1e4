/**
 * The tokens that a manager knows, and the memory they take.
 *
 * Invariant: a binding that is used is never given up. Beyond the limit the manager gives up first what the
 * store can bring back (nobody notices: it is looked up again), about in the order in which they were last
 * used. What can't be brought back has to be evicted by whoever asks for room.
 */
import type { Binding } from './token-binding.js';

/** Bytes that a binding takes beside its texts, measured with Node 20 and rounded up. */
const BASE_BYTES = 1200;
/** Bindings looked at for every one that is added beyond the limit. */
const LOOKS = 64;

function costOf({ record }: Binding): number {
  return BASE_BYTES + 2 * (record.path.length + (record.keptPath?.length ?? 0));
}

export class Bindings {
  readonly #byId = new Map<string, Binding>();
  readonly #mostBytes: number;
  #bytes = 0;

  /** @param mostBytes of memory, estimated */
  constructor(mostBytes = Number.POSITIVE_INFINITY) {
    this.#mostBytes = mostBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(id: string): Binding | undefined {
    return this.#byId.get(id);
  }

  values(): Iterable<Binding> {
    return this.#byId.values();
  }

  add(binding: Binding): void {
    this.delete(binding.record.id);
    this.#byId.set(binding.record.id, binding);
    this.#bytes += costOf(binding);
    binding.known = true;
    binding.queued = binding.lastUsed;
  }

  delete(id: string): void {
    const binding = this.#byId.get(id);
    if (!binding) return;
    this.#byId.delete(id);
    this.#bytes = Math.max(0, this.#bytes - costOf(binding));
    binding.known = false;
  }

  /**
   * Gives up bindings until the limit is kept; false when that is not enough.
   * @param restorable says what the store can bring back
   */
  shrink(restorable: (binding: Binding) => boolean): boolean {
    if (this.#bytes <= this.#mostBytes) return true;
    // Some at once: finding the first of a map means passing all that were deleted before it.
    const enough = this.#mostBytes * (1 - 1 / 64);
    let looks = LOOKS;
    for (const binding of this.#byId.values()) {
      if (this.#bytes <= enough || looks === 0) break;
      looks -= 1;
      const used = binding.lastUsed > binding.queued;
      if (!used && binding.pins === 0 && restorable(binding)) this.delete(binding.record.id);
      // To the end of the queue.
      else this.add(binding);
    }
    // All that was looked at was used lately: that is no reason to take tokens from others, who share the store.
    for (const binding of this.#byId.values()) {
      if (this.#bytes <= this.#mostBytes) break;
      if (binding.pins === 0 && restorable(binding)) this.delete(binding.record.id);
    }
    return this.#bytes <= this.#mostBytes;
  }
}

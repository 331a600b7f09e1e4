/**
 * Which providers may move bytes between two files, cheapest first.
 *
 * Invariant: capabilities are asked once per pair of files; a provider that failed for a pair is not
 * tried for it again in this session, and its reason is kept for messages.
 */
import { assert } from '../base/assert.js';
import { VhdkitError } from '../base/errors.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { OffloadCapabilities, OffloadProvider, ProviderId } from './offload-provider.js';
import type { ProviderChoice } from './transfer-types.js';

export interface Rung {
  provider: OffloadProvider;
  capabilities: OffloadCapabilities;
}

interface Pair {
  rungs: Rung[];
  reasons: string[];
}

/** Cheapest first. The zero provider is no rung: it moves no data. */
const ORDER: readonly ProviderId[] = ['reflink', 'kernel', 'buffered'];

const DEED: Record<string, string> = {
  reflink: 'Extents can not be shared',
  kernel: 'The kernel can not copy',
  buffered: 'Bytes can not be copied',
};

export class Ladder {
  readonly choice: ProviderChoice;
  readonly #providers: readonly OffloadProvider[];
  readonly #pairs = new Map<RandomAccessFile, Map<RandomAccessFile, Pair>>();

  constructor(providers: readonly OffloadProvider[], choice: ProviderChoice) {
    this.choice = choice;
    this.#providers = providers;
  }

  /** The providers that are still worth trying, cheapest first. */
  rungs(source: RandomAccessFile, target: RandomAccessFile): readonly Rung[] {
    return this.#pair(source, target).rungs;
  }

  /** A provider by name, whatever the choice: edges and zeros need one in any case. */
  provider(id: ProviderId): OffloadProvider {
    const provider = this.#providers.find((candidate) => candidate.id === id);
    assert(provider, `there is no provider '${id}'`);
    return provider;
  }

  /** Remembers that the provider can't do this pair after all. */
  fail(source: RandomAccessFile, target: RandomAccessFile, id: ProviderId, reason: string): void {
    const pair = this.#pair(source, target);
    pair.rungs = pair.rungs.filter(({ provider }) => provider.id !== id);
    if (!pair.reasons.includes(reason)) pair.reasons.push(reason);
  }

  /** The reflink rung of a pair, if it has one. */
  sharing(source: RandomAccessFile, target: RandomAccessFile): Rung | undefined {
    return this.rungs(source, target).find(({ provider }) => provider.id === 'reflink');
  }

  /** The error for a range that no allowed provider can do. */
  unsupported(source: RandomAccessFile, target: RandomAccessFile, why?: string): VhdkitError {
    const reason = why ?? (this.#pair(source, target).reasons.join('; ') || 'no provider does this');
    const deed = DEED[this.choice] ?? 'Nothing can move bytes';
    const message = `${deed} from ${source.path} to ${target.path}: ${reason}`;
    return new VhdkitError('OFFLOAD_UNSUPPORTED', message, {
      operation: 'transfer',
      context: { path: target.path, source: source.path, provider: this.choice, reason },
      hint: 'Use the provider `auto`, which falls back to what works, or another target file system.',
    });
  }

  #pair(source: RandomAccessFile, target: RandomAccessFile): Pair {
    let targets = this.#pairs.get(source);
    if (!targets) {
      targets = new Map();
      this.#pairs.set(source, targets);
    }
    let pair = targets.get(target);
    if (!pair) {
      pair = this.#examine(source, target);
      targets.set(target, pair);
    }
    return pair;
  }

  #examine(source: RandomAccessFile, target: RandomAccessFile): Pair {
    const pair: Pair = { rungs: [], reasons: [] };
    // What exists in memory only (a rewritten partition table) is in no storage: it is written, whatever
    // was demanded for the files around it.
    const onlyInMemory = source.kind === 'memory' && target.kind !== 'memory';
    const ids = this.choice === 'auto' ? ORDER : onlyInMemory ? (['buffered'] as const) : [this.choice];
    for (const provider of ids.flatMap((id) => this.#providers.filter((candidate) => candidate.id === id))) {
      const capabilities = provider.capabilities(source, target);
      if (capabilities.supported) pair.rungs.push({ provider, capabilities });
      else if (capabilities.reason) pair.reasons.push(capabilities.reason);
    }
    return pair;
  }
}

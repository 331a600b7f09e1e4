/**
 * Which providers may move bytes between two files, cheapest first.
 *
 * Invariants: capabilities are asked once per pair of files; a provider that failed for a pair is not tried
 * for it again in this session, nor for some time in others that share the memory, and its reason is kept
 * for messages. The order of kinds is fixed; among several of one kind the quickest as measured goes first.
 * What a choice passes over is settled per pair, once: a failure later on does not shift it.
 */
import { assert } from '../base/assert.js';
import { VhdkitError } from '../base/errors.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { FailedPairs } from './failed-pairs.js';
import { type LatencyMemory, TRIAL_LENGTH } from './latency.js';
import type {
  FailureScope,
  OffloadCapabilities,
  OffloadProvider,
  OffloadWriteRequest,
  OffloadWriteResult,
  ProviderId,
} from './offload-provider.js';
import type { ProviderChoice } from './transfer-types.js';

export interface Rung {
  provider: OffloadProvider;
  capabilities: OffloadCapabilities;
  /** One of several of its kind, and not measured yet: after a piece the choice is made anew. */
  trial?: boolean;
}

interface Pair {
  rungs: Rung[];
  reasons: string[];
  /** There are several of one kind: which is quickest is to be found out. */
  rivals: boolean;
}

/** What outlives a session: shared by all of a process. */
export interface LadderMemory {
  failed?: FailedPairs | undefined;
  latency?: LatencyMemory | undefined;
}

type RungId = Exclude<ProviderId, 'zero'>;

/** Cheapest first. The zero provider is no rung: it moves no data. */
const ORDER: readonly RungId[] = ['reflink', 'kernel', 'buffered'];

/** What a choice allows. */
const ALLOWED: Record<ProviderChoice, { ids: readonly RungId[]; skip: number }> = {
  auto: { ids: ORDER, skip: 0 },
  reflink: { ids: ['reflink'], skip: 0 },
  kernel: { ids: ['kernel'], skip: 0 },
  buffered: { ids: ['buffered'], skip: 0 },
  'skip-1': { ids: ORDER, skip: 1 },
  'skip-2': { ids: ORDER, skip: 2 },
};

const DEED: Record<string, string> = {
  reflink: 'Extents can not be shared',
  kernel: 'The kernel can not copy',
  buffered: 'Bytes can not be copied',
};

export class Ladder {
  readonly choice: ProviderChoice;
  /** Where one provider can't, the next may: none was asked for by name. */
  readonly isOpen: boolean;
  readonly #providers: readonly OffloadProvider[];
  /** Of providers: the kind, and a number where there are several. */
  readonly #names = new Map<OffloadProvider, string>();
  readonly #memory: LadderMemory;
  readonly #pairs = new Map<RandomAccessFile, Map<RandomAccessFile, Pair>>();

  constructor(providers: readonly OffloadProvider[], choice: ProviderChoice, memory: LadderMemory = {}) {
    this.choice = choice;
    this.isOpen = ALLOWED[choice].ids === ORDER;
    this.#providers = providers;
    this.#memory = memory;
    for (const provider of providers) {
      const before = [...this.#names.keys()].filter(({ id }) => id === provider.id).length;
      this.#names.set(provider, before === 0 ? provider.id : `${provider.id}-${before + 1}`);
    }
  }

  /** The providers that are still worth trying, cheapest first. `length`: bytes of what is to be moved. */
  rungs(source: RandomAccessFile, target: RandomAccessFile, length = TRIAL_LENGTH): readonly Rung[] {
    const { rungs, rivals } = this.#pair(source, target);
    const { latency } = this.#memory;
    if (!rivals || !latency) return rungs;
    const timed = rungs.map((rung) => {
      const alone = rungs.every((other) => other === rung || other.provider.id !== rung.provider.id);
      const time = alone ? 0 : latency.estimate(this.#name(rung.provider), source, target, length);
      return { rung: time === undefined ? asTrial(rung) : rung, time: time ?? -1 };
    });
    const kind = ({ rung }: { rung: Rung }): number =>
      (ORDER as readonly ProviderId[]).indexOf(rung.provider.id);
    return timed.sort((a, b) => kind(a) - kind(b) || a.time - b.time).map(({ rung }) => rung);
  }

  /** Lets a provider of the pair write; where several compete, takes note of how long it took. */
  async write(
    rung: Rung,
    source: RandomAccessFile,
    request: OffloadWriteRequest,
  ): Promise<OffloadWriteResult> {
    const work = (): Promise<OffloadWriteResult> => rung.provider.offloadWrite(request);
    const { latency } = this.#memory;
    if (!latency || !this.#pair(source, request.target).rivals) return work();
    const name = this.#name(rung.provider);
    const bytesOf = (result: OffloadWriteResult): number => (result.status === 'done' ? result.length : 0);
    return latency.measure(name, source, request.target, work, bytesOf);
  }

  /** A provider by name, whatever the choice: edges and zeros need one in any case. */
  provider(id: ProviderId): OffloadProvider {
    const provider = this.#providers.find((candidate) => candidate.id === id);
    assert(provider, `there is no provider '${id}'`);
    return provider;
  }

  /** Remembers that the provider can't do this pair after all. */
  fail(
    source: RandomAccessFile,
    target: RandomAccessFile,
    failed: OffloadProvider,
    why: { reason: string; scope?: FailureScope },
  ): void {
    const pair = this.#pair(source, target);
    pair.rungs = pair.rungs.filter(({ provider }) => provider !== failed);
    if (!pair.reasons.includes(why.reason)) pair.reasons.push(why.reason);
    this.#memory.failed?.note(this.#name(failed), source, target, why);
  }

  /** The reflink rung of a pair, if it has one. */
  sharing(source: RandomAccessFile, target: RandomAccessFile): Rung | undefined {
    return this.rungs(source, target).find(({ provider }) => provider.id === 'reflink');
  }

  /** The error for a range that no allowed provider can do. */
  unsupported(source: RandomAccessFile, target: RandomAccessFile, why?: string): VhdkitError {
    const reason = why ?? (this.#pair(source, target).reasons.join('; ') || 'no provider does this');
    const { skip } = ALLOWED[this.choice];
    const deed =
      DEED[this.choice] ??
      (skip > 0 ? `With ${skip} passed over no provider is left` : 'Nothing can move bytes');
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
    const pair: Pair = { rungs: [], reasons: [], rivals: false };
    // What exists in memory only (a rewritten partition table) is in no storage: it is written, whatever
    // was demanded for the files around it.
    const onlyInMemory = source.kind === 'memory' && target.kind !== 'memory';
    const { ids, skip } = ALLOWED[onlyInMemory && this.choice !== 'auto' ? 'buffered' : this.choice];
    for (const provider of ids.flatMap((id) => this.#providers.filter((candidate) => candidate.id === id))) {
      const before = this.#memory.failed?.find(this.#name(provider), source, target);
      if (before) {
        pair.reasons.push(`${before.reason} (tried again in ${Math.ceil(before.retryIn / 1000)} s)`);
        continue;
      }
      const capabilities = provider.capabilities(source, target);
      if (capabilities.supported) pair.rungs.push({ provider, capabilities });
      else if (capabilities.reason) pair.reasons.push(capabilities.reason);
    }
    pair.rungs.splice(0, skip);
    pair.rivals = new Set(pair.rungs.map(({ provider }) => provider.id)).size < pair.rungs.length;
    return pair;
  }

  #name(provider: OffloadProvider): string {
    return this.#names.get(provider) ?? provider.id;
  }
}

function asTrial({ provider, capabilities }: Rung): Rung {
  const maxLength = Math.min(capabilities.maxLength, TRIAL_LENGTH);
  return { provider, capabilities: { ...capabilities, maxLength }, trial: true };
}

/**
 * Several providers for the same data: whose tokens are taken, and who is to use them.
 *
 * A stack is a list in the order of preference, cheapest first. Members that take the same tokens (`tokens`)
 * share them; each kind of tokens is offered by the first of its members. On the write side members are
 * chosen by their id, by passing over the first so many that would do it, in the order of the list, or by
 * what was measured (latency.ts).
 *
 * Invariants: a member that failed for a pair is not asked again before RETRY_AFTER is over, whoever asks and
 * in whatever way; ids of members are opaque names, and the only thing of a stack that gets into token sets.
 */
import { assert } from '../../base/assert.js';
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { FailedPairs } from '../failed-pairs.js';
import { type LatencyMemory, TRIAL_LENGTH } from '../latency.js';
import type { FailureScope, OffloadCapabilities, OffloadProvider } from '../offload-provider.js';
import { isOpaqueName, isZeroToken, SET_LIMITS, type TokenChoice } from '../token-set-model.js';

export interface StackMember {
  /** `a` to `z`, digits and `-`; unique in the stack. */
  readonly id: string;
  readonly provider: OffloadProvider;
  /** Names the tokens that it makes and takes, as sets of tokens have it. Default: its own id. */
  readonly tokens?: string;
}

/** Who is to write. Empty: in the order of the stack, the next where one can't. */
export interface StackChoice {
  /** Only this member. */
  id?: string;
  /** Passes over the first so many of those that would do it. */
  skip?: number;
  /** `latency`: the quickest first, by what was measured; who was not measured is tried with a short piece. */
  order?: 'stack' | 'latency';
}

/** A member that may write a part, and with which token. */
export interface Candidate {
  readonly member: StackMember;
  readonly choice: TokenChoice;
  readonly capabilities: OffloadCapabilities;
}

/** Where a part's data is, as far as its token's holder tells. */
export interface PartSource {
  readonly file: RandomAccessFile;
  /** Of the part, in the file. */
  readonly offset: number;
}

/** A part that is to be written. */
export interface PartQuestion {
  readonly choices: readonly TokenChoice[];
  /** What is known of where the data of a choice is. */
  readonly sourceOf: (choice: TokenChoice) => PartSource | undefined;
  readonly target: RandomAccessFile;
  /** Bytes. */
  readonly length: number;
  readonly choice: StackChoice;
}

export interface StackMemory {
  readonly failed: FailedPairs;
  readonly latency: LatencyMemory;
}

/** Of whoever does not tell what he can do: he is asked. */
const UNKNOWN: OffloadCapabilities = { supported: true, alignment: 1, maxLength: Number.MAX_SAFE_INTEGER };

export function tokensOf({ id, tokens }: StackMember): string {
  return tokens ?? id;
}

export class ProviderStack {
  readonly members: readonly StackMember[];
  readonly memory: StackMemory;
  /** Asked once for each pair of open files. */
  readonly #known = new WeakMap<
    RandomAccessFile,
    WeakMap<RandomAccessFile, Map<string, OffloadCapabilities>>
  >();

  /** @throws INVALID_ARGUMENT for ids that are no opaque names, or not unique */
  constructor(members: readonly StackMember[], memory: StackMemory) {
    const ids = members.map(({ id }) => id);
    const names = [...ids, ...members.map(tokensOf)];
    const sound = names.every(isOpaqueName) && new Set(ids).size === ids.length;
    if (!sound || ids.length === 0 || ids.length > SET_LIMITS.providers) {
      throw new VhdkitError('INVALID_ARGUMENT', `Not the ids of a stack of providers: ${ids.join(', ')}`, {
        operation: 'make provider stack',
        hint: `Give 1 to ${SET_LIMITS.providers} of them different ids of a-z, 0-9 and "-", at most 31 characters.`,
      });
    }
    this.members = [...members];
    this.memory = memory;
  }

  /** The members that make tokens: one for each kind of them. @throws INVALID_ARGUMENT for an id nobody has */
  readers(id?: string): StackMember[] {
    if (id !== undefined) return [this.member(id)];
    const kinds = new Map<string, StackMember>();
    for (const member of this.members) {
      if (!kinds.has(tokensOf(member))) kinds.set(tokensOf(member), member);
    }
    return [...kinds.values()];
  }

  /** @throws INVALID_ARGUMENT */
  member(id: string): StackMember {
    const member = this.members.find((candidate) => candidate.id === id);
    if (member) return member;
    throw new VhdkitError('INVALID_ARGUMENT', `There is no provider '${id}'`, {
      operation: 'choose provider',
      context: { providers: this.members.map((candidate) => candidate.id) },
      hint: `These are there: ${this.members.map((candidate) => candidate.id).join(', ')}.`,
    });
  }

  /** Who may write a part, best first, and why others may not. @throws INVALID_ARGUMENT for an id nobody has */
  candidates(question: PartQuestion): { able: Candidate[]; reasons: string[] } {
    const { choices, sourceOf, target } = question;
    const { id, skip = 0, order = 'stack' } = question.choice;
    assert(Number.isSafeInteger(skip) && skip >= 0, `not a number of providers to pass over: ${skip}`);
    const able: Candidate[] = [];
    const reasons: string[] = [];
    for (const member of id === undefined ? this.members : [this.member(id)]) {
      const choice = choices.find((offered) => takes(member, offered));
      if (!choice) continue;
      const capabilities = this.#ability(member, sourceOf(choice)?.file, target);
      if (capabilities.supported) able.push({ member, choice, capabilities });
      else reasons.push(`${member.id}: ${capabilities.reason ?? 'it can not'}`);
    }
    const ordered = order === 'stack' ? able : this.#byLatency(able, question);
    return { able: ordered.slice(skip), reasons };
  }

  /** Takes note that a member could not write. */
  fail(
    { id }: StackMember,
    source: RandomAccessFile | undefined,
    target: RandomAccessFile,
    why: { reason: string; scope?: FailureScope },
  ): void {
    this.memory.failed.note(id, source ?? target, target, why);
  }

  /** What a member can do now, with what it failed at before. */
  #ability(
    { id, provider }: StackMember,
    source: RandomAccessFile | undefined,
    target: RandomAccessFile,
  ): OffloadCapabilities {
    // Without a source there is nothing that anybody could fail to reach: zeros, or a stranger's token.
    const failure = this.memory.failed.find(id, source ?? target, target);
    if (failure) {
      const reason = `${failure.reason} (tried again in ${Math.ceil(failure.retryIn / 1000)} s)`;
      return { supported: false, reason, alignment: 1, maxLength: 0 };
    }
    if (!source) return UNKNOWN;
    const known =
      this.#known.get(source) ?? new WeakMap<RandomAccessFile, Map<string, OffloadCapabilities>>();
    this.#known.set(source, known);
    const ofPair = known.get(target) ?? new Map<string, OffloadCapabilities>();
    known.set(target, ofPair);
    const capabilities = ofPair.get(id) ?? provider.capabilities(source, target);
    ofPair.set(id, capabilities);
    return capabilities;
  }

  #byLatency(able: readonly Candidate[], { sourceOf, target, length }: PartQuestion): Candidate[] {
    const timed = able.map((candidate) => {
      const source = sourceOf(candidate.choice)?.file;
      const time = this.memory.latency.estimate(candidate.member.id, source, target, length);
      return { candidate: time === undefined ? asTrial(candidate) : candidate, time: time ?? -1 };
    });
    return timed.sort((a, b) => a.time - b.time).map(({ candidate }) => candidate);
  }
}

/** Whether a member takes a choice's token; zeros anybody can make. */
export function takes(member: StackMember, { provider, token }: TokenChoice): boolean {
  return tokensOf(member) === provider || isZeroToken(token);
}

function asTrial({ member, choice, capabilities }: Candidate): Candidate {
  const maxLength = Math.min(capabilities.maxLength, TRIAL_LENGTH);
  return { member, choice, capabilities: { ...capabilities, maxLength } };
}

/**
 * The requestor's side of writing: makes all of a token set appear in a file, however providers shorten it.
 *
 * Works from the start of the set to its end. Each step is done by the best candidate of the stack; what is
 * off its alignment goes to the next one, what it can't do after all as well, from the point reached.
 *
 * Invariants: all tokens are proved and held before anything is written, and proved again at the end, so that
 * a source that changed meanwhile is an error; whatever happens, `done` bytes from the start are in place.
 * Steps without progress are counted, and STALL_LIMIT of them are a failure of that provider.
 *
 * A token that is revoked meanwhile is of no use from then on: another provider's is taken, or the write ends.
 *
 * Not here: the target's length is no limit (bytes behind its end extend it), and flushing is the caller's.
 */
import { BugError } from '../../base/assert.js';
import { isVhdkitError, throwIfAborted, VhdkitError } from '../../base/errors.js';
import { splitRequest } from '../../block/split-request.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { HeldToken, OffloadWriteResult } from '../offload-provider.js';
import type { Token } from '../token.js';
import { refusalReason } from '../token-refusal.js';
import type { TokenSet } from '../token-set.js';
import { isZeroToken, type TokenChoice, type TokenSetPart } from '../token-set-model.js';
import {
  type Candidate,
  type PartSource,
  type ProviderStack,
  type StackChoice,
  takes,
} from './provider-stack.js';
import { STALL_LIMIT, ZEROS } from './requestor-read.js';

export interface WriteAllOptions extends StackChoice {
  signal?: AbortSignal;
  /** Called after each step with the bytes in place so far. */
  onProgress?: (done: number) => void;
}

export interface WriteAllResult {
  /** Bytes in place: the set's length. */
  length: number;
  /** Bytes by the id of the member that wrote them; of zero tokens as `zero`, whoever made them. */
  by: Readonly<Record<string, number>>;
  /** Requests that did something. */
  requests: number;
}

/**
 * Writes a token set to a file.
 * @param offset where in the file, in bytes
 * @throws OFFLOAD_UNSUPPORTED (nobody could go on; `context.done` bytes are in place), TOKEN_INVALID,
 *   TOKEN_EXPIRED, SOURCE_CHANGED, PERMISSION_DENIED (tokens, when nobody else offers the part), READ_ONLY,
 *   NO_SPACE, IO_FAILED, CANCELLED, INVALID_ARGUMENT (an id nobody has)
 */
export async function offloadWriteAll(
  stack: ProviderStack,
  set: TokenSet,
  target: RandomAccessFile,
  offset: number,
  options: WriteAllOptions = {},
): Promise<WriteAllResult> {
  const run = new WriteRun(stack, target, offset, options);
  try {
    await run.hold(set);
    for (const part of set.parts) await run.write(part);
    await run.proveAgain();
    return run.result();
  } finally {
    run.release();
  }
}

/** The next piece of a part, and by whom. */
interface Step extends Candidate {
  length: number;
}

class WriteRun {
  readonly #stack: ProviderStack;
  readonly #target: RandomAccessFile;
  readonly #offset: number;
  readonly #options: WriteAllOptions;
  readonly #held = new Map<Token, HeldToken>();
  /** Why tokens can't be used. */
  readonly #refused = new Map<Token, VhdkitError>();
  readonly #used = new Set<HeldToken>();
  readonly #by: Record<string, number> = {};
  #requests = 0;
  #done = 0;

  constructor(stack: ProviderStack, target: RandomAccessFile, offset: number, options: WriteAllOptions) {
    this.#stack = stack;
    this.#target = target;
    this.#offset = offset;
    this.#options = options;
  }

  /** Proves the tokens. One that is refused is no harm while another provider offers the same data. */
  async hold(set: TokenSet): Promise<void> {
    for (const part of set.parts) {
      throwIfAborted(this.#options.signal, 'offload write');
      for (const choice of part.choices) await this.#holdOne(choice);
      const refusals = part.choices.map(({ token }) => this.#refused.get(token));
      const [first] = refusals;
      if (first && refusals.every((refusal) => refusal !== undefined)) throw first;
    }
  }

  async write(part: TokenSetPart): Promise<void> {
    /** Members that can't do the piece at this point. */
    const excluded = new Map<string, string>();
    let stalls = 0;
    for (let at = 0; at < part.length; ) {
      throwIfAborted(this.#options.signal, 'offload write');
      const step = this.#next(part, at, excluded);
      const result = await this.#try(step, at);
      if (result && result.length > 0) {
        excluded.clear();
        stalls = 0;
        at += result.length;
        this.#count(step, result.length);
      } else if (result) {
        stalls += 1;
        if (stalls < STALL_LIMIT) continue;
        stalls = 0;
        this.#fail(step, { reason: `${STALL_LIMIT} requests did nothing` });
        excluded.set(step.member.id, 'it makes no progress');
      } else {
        stalls = 0;
        excluded.set(step.member.id, 'it can not do this range');
      }
    }
  }

  /** @throws SOURCE_CHANGED: what was written may be a mixture */
  async proveAgain(): Promise<void> {
    for (const held of this.#used) await held.verifyUnchanged();
  }

  release(): void {
    for (const { release } of this.#held.values()) release();
    this.#held.clear();
  }

  result(): WriteAllResult {
    return { length: this.#done, by: { ...this.#by }, requests: this.#requests };
  }

  async #holdOne(choice: TokenChoice): Promise<void> {
    const { token } = choice;
    if (this.#held.has(token) || this.#refused.has(token)) return;
    const provider = this.#stack.members.find((member) => takes(member, choice))?.provider;
    if (!provider?.hold || isZeroToken(token)) return;
    try {
      this.#held.set(token, await provider.hold(token));
    } catch (error) {
      this.#refuse(token, error);
    }
  }

  /** Takes note of why a token is refused; whatever else went wrong is thrown on. */
  #refuse(token: Token, error: unknown): void {
    if (!isVhdkitError(error) || refusalReason(error) === undefined) throw error;
    this.#refused.set(token, error);
  }

  #sourceOf = ({ token, tokenOffset }: TokenChoice): PartSource | undefined => {
    const source = this.#held.get(token)?.source;
    return source && { file: source.file, offset: source.offset + tokenOffset };
  };

  /** What is to be done next. @throws OFFLOAD_UNSUPPORTED, and why tokens are refused */
  #next(part: TokenSetPart, at: number, excluded: ReadonlyMap<string, string>): Step {
    const rest = part.length - at;
    const choices = part.choices
      .filter(({ token }) => !this.#refused.has(token))
      .map((choice) => ({ ...choice, tokenOffset: choice.tokenOffset + at }));
    const question = { choices, sourceOf: this.#sourceOf, target: this.#target, length: rest };
    const { able, reasons } = this.#stack.candidates({ ...question, choice: this.#options });
    /** Up to where a better candidate can take over. */
    let limit = rest;
    for (const candidate of able) {
      const why = excluded.get(candidate.member.id);
      const piece = why === undefined ? this.#piece(candidate, limit) : undefined;
      if (piece?.now) return { ...candidate, length: Math.min(piece.now, candidate.capabilities.maxLength) };
      if (piece?.after) limit = piece.after;
      reasons.push(`${candidate.member.id}: ${why ?? 'the range is off its alignment'}`);
    }
    const [refusal] = part.choices.flatMap(({ token }) => this.#refused.get(token) ?? []);
    throw able.length === 0 && refusal ? refusal : this.#unsupported(reasons, rest);
  }

  /** How much a candidate can do here (`now`), or after how many bytes it can (`after`). */
  #piece(
    { choice, capabilities: { alignment } }: Candidate,
    length: number,
  ): { now?: number; after?: number } {
    if (alignment === 1) return { now: length };
    const source = this.#sourceOf(choice);
    const [from, to] = [source?.offset ?? choice.tokenOffset, this.#offset + this.#done];
    if ((from - to) % alignment !== 0) return {};
    const { head, body } = splitRequest(from, length, alignment);
    if (body === 0) return {};
    return head === 0 ? { now: body } : { after: head };
  }

  /** Undefined when the member can't do it after all. */
  async #try({ member, choice, length }: Step, at: number): Promise<{ length: number } | undefined> {
    const { signal } = this.#options;
    const { token, tokenOffset } = choice;
    const target = this.#target;
    const source = this.#sourceOf(choice)?.file;
    const write = { token, tokenOffset, target, targetOffset: this.#offset + this.#done, length };
    const work = (): Promise<OffloadWriteResult> =>
      member.provider.offloadWrite(signal ? { ...write, signal } : write);
    const bytesOf = (result: OffloadWriteResult): number => (result.status === 'done' ? result.length : 0);
    let result: OffloadWriteResult;
    try {
      result = await this.#stack.memory.latency.measure(member.id, source, target, work, bytesOf);
    } catch (error) {
      this.#refuse(token, error);
      return undefined;
    }
    if (result.status === 'unsupported') {
      this.#fail({ member, choice }, result);
      return undefined;
    }
    if (result.length < 0 || result.length > length) {
      throw new BugError(`${member.id} did ${result.length} of ${length} bytes at ${at}`);
    }
    const held = this.#held.get(token);
    if (held) this.#used.add(held);
    return result;
  }

  #fail(
    { member, choice }: Pick<Step, 'member' | 'choice'>,
    why: Parameters<ProviderStack['fail']>[3],
  ): void {
    this.#stack.fail(member, this.#sourceOf(choice)?.file, this.#target, why);
  }

  #count({ member, choice }: Step, length: number): void {
    const name = isZeroToken(choice.token) ? ZEROS : member.id;
    this.#by[name] = (this.#by[name] ?? 0) + length;
    this.#requests += 1;
    this.#done += length;
    this.#options.onProgress?.(this.#done);
  }

  #unsupported(reasons: readonly string[], rest: number): VhdkitError {
    const why = [...new Set(reasons)].join('; ') || 'no provider takes these tokens';
    const { path } = this.#target;
    return new VhdkitError('OFFLOAD_UNSUPPORTED', `Nothing can write to ${path}: ${why}`, {
      operation: 'offload write',
      context: { path, offset: this.#offset + this.#done, length: rest, done: this.#done, reason: why },
      hint: 'Leave the choice to the stack, with a member in it that reads and writes.',
    });
  }
}

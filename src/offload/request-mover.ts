/**
 * Carries out requests: each by the cheapest provider that can do it, with several in flight.
 *
 * A range is cut so that the aligned middle goes to a provider that needs alignment, and the edges to the
 * next one. Short ranges that nobody can share are gathered: many of them become one write.
 *
 * Invariant: with an explicit choice of provider nothing but the edges (less than an alignment unit at
 * each end) is done by another; what it can't do is an error.
 */
import { BugError } from '../base/assert.js';
import { throwIfAborted } from '../base/errors.js';
import { splitRequest } from '../block/split-request.js';
import type { BufferPool } from './buffer-pool.js';
import type { Gatherer, Part } from './gather.js';
import type { Ladder, Rung } from './ladder.js';
import type { OffloadProvider, OffloadWriteRequest } from './offload-provider.js';
import { SHORT_ZEROS } from './pieces.js';
import { advance, type CopyRequest, type Request, type ZeroRequest } from './plan.js';
import type { RateLimit } from './rate-limit.js';
import { runLimited } from './run-limited.js';
import type { Tally } from './tally.js';
import { ZERO_TOKEN } from './token-codec.js';

const REQUESTS_IN_FLIGHT = 8;
/** Shorter copies are worth gathering. */
const SHORT_COPY = 64 * 1024;

/** What a whole session shares. */
export interface MoverParts {
  ladder: Ladder;
  zero: OffloadProvider;
  gatherer: Gatherer;
  pool: BufferPool;
  tally: Tally;
  /** Zeros need no writing. */
  unwrittenIsZero: boolean;
  /** Asked before bytes are read here; the providers of the ladder keep to it by themselves. */
  rateLimit: RateLimit | undefined;
  signal: AbortSignal | undefined;
}

type Job = { kind: 'one'; request: Request } | { kind: 'gather'; requests: Request[]; length: number };

export class RequestMover {
  readonly #parts: MoverParts;

  constructor(parts: MoverParts) {
    this.#parts = parts;
  }

  /** Returns when all bytes are in place. Requests are in target order and don't overlap. */
  async run(requests: readonly Request[]): Promise<void> {
    await runLimited(this.#jobs(requests), REQUESTS_IN_FLIGHT, (job) => {
      throwIfAborted(this.#parts.signal, 'transfer');
      if (job.kind === 'gather') return this.#gather(job);
      return job.request.kind === 'zero' ? this.#zero(job.request) : this.#copy(job.request);
    });
  }

  #jobs(requests: readonly Request[]): Job[] {
    const jobs: Job[] = [];
    for (const request of requests) {
      for (const part of this.#cut(request)) {
        const last = jobs.at(-1);
        if (!this.#isShort(part)) {
          jobs.push({ kind: 'one', request: part });
        } else if (last?.kind === 'gather' && this.#continues(last, part)) {
          last.requests.push(part);
          last.length += part.length;
        } else if (part.kind === 'copy') {
          jobs.push({ kind: 'gather', requests: [part], length: part.length });
        } else {
          jobs.push({ kind: 'one', request: part });
        }
      }
    }
    return jobs;
  }

  /** Cuts off what can be shared, so that the rest may be gathered. */
  #cut(request: Request): Request[] {
    const { ladder } = this.#parts;
    if (request.kind === 'zero' || !ladder.isOpen) return [request];
    const rung = this.#sharingRung(request);
    if (!rung) return [request];
    const { head, body, tail } = splitRequest(
      request.sourceOffset,
      request.length,
      rung.capabilities.alignment,
    );
    if (body === 0) return [request];
    const middle = { ...advance(request, head), length: body };
    const parts = [{ ...request, length: head }, middle, { ...advance(request, head + body), length: tail }];
    return parts.filter(({ length }) => length > 0);
  }

  #sharingRung(request: CopyRequest): Rung | undefined {
    const rung = this.#parts.ladder.sharing(request.source.file, request.target);
    return rung && isAligned(request, rung) ? rung : undefined;
  }

  /** Short, and no provider would share it. */
  #isShort(request: Request): boolean {
    if (request.kind === 'zero') return request.length < SHORT_ZEROS;
    const { choice, isOpen } = this.#parts.ladder;
    if (request.length >= SHORT_COPY || (!isOpen && choice !== 'buffered')) return false;
    const rung = this.#sharingRung(request);
    return (
      !rung || splitRequest(request.sourceOffset, request.length, rung.capabilities.alignment).body === 0
    );
  }

  #continues(job: Extract<Job, { kind: 'gather' }>, next: Request): boolean {
    const last = job.requests.at(-1);
    return (
      last !== undefined &&
      last.target === next.target &&
      last.targetOffset + last.length === next.targetOffset &&
      job.length + next.length <= this.#parts.pool.size
    );
  }

  async #zero(request: ZeroRequest): Promise<void> {
    const { zero, tally, unwrittenIsZero, signal } = this.#parts;
    let rest = request;
    while (!unwrittenIsZero && rest.length > 0) {
      const { target, targetOffset, length } = rest;
      const write: OffloadWriteRequest = { token: ZERO_TOKEN, tokenOffset: 0, target, targetOffset, length };
      const result = await zero.offloadWrite(signal ? { ...write, signal } : write);
      if (result.status === 'unsupported') throw new BugError(`zeros are unsupported: ${result.reason}`);
      rest = advance(rest, checkLength(result.length, length));
    }
    tally.add('zero', request.length);
  }

  /** One write for many short requests that are adjacent in the target. */
  async #gather(job: Extract<Job, { kind: 'gather' }>): Promise<void> {
    const { gatherer, pool, rateLimit, signal, tally } = this.#parts;
    const [first] = job.requests;
    const last = job.requests.at(-1);
    if (!first) return;
    // Zeros at the end are for the zero provider, if anybody.
    if (last?.kind === 'zero') {
      job.requests.pop();
      job.length -= last.length;
      await this.#zero(last);
    }
    const parts = partsOf(job.requests);
    await rateLimit?.take(payloadOf(parts), signal);
    await pool.with(async (buffer) => {
      const bytes = buffer.subarray(0, job.length);
      await gatherer.fill(bytes, parts);
      await first.target.write(bytes, first.targetOffset);
    });
    for (const { kind, length } of job.requests) tally.add(kind === 'zero' ? 'zero' : 'buffered', length);
  }

  /** Tries the rungs from the cheapest on. */
  async #copy(request: CopyRequest): Promise<void> {
    if (request.length === 0) return;
    const rungs = this.#parts.ladder.rungs(request.source.file, request.target, request.length);
    for (const rung of rungs) {
      if (!isAligned(request, rung)) continue;
      const { alignment } = rung.capabilities;
      const { head, body, tail } = splitRequest(request.sourceOffset, request.length, alignment);
      if (body === 0) continue;
      await this.#edge({ ...request, length: head });
      await this.#body({ ...advance(request, head), length: body }, rung);
      await this.#edge({ ...advance(request, head + body), length: tail });
      return;
    }
    await this.#withoutRung(request, rungs);
  }

  /** No provider took the range whole: fine when it is all edge, otherwise an error. */
  async #withoutRung(request: CopyRequest, rungs: readonly Rung[]): Promise<void> {
    const { ladder } = this.#parts;
    const [rung] = rungs;
    if (rung && isAligned(request, rung)) return this.#edge(request);
    const { source, target, sourceOffset, targetOffset } = request;
    const why =
      rung && `offset ${sourceOffset} can't go to ${targetOffset} in units of ${rung.capabilities.alignment}`;
    throw ladder.unsupported(source.file, target, why);
  }

  /** What is shorter than a unit: a cheaper provider is skipped, an explicit choice allows buffers. */
  async #edge(request: CopyRequest): Promise<void> {
    const { ladder } = this.#parts;
    if (request.length === 0) return;
    if (ladder.isOpen) return this.#copy(request);
    const capabilities = { supported: true, alignment: 1, maxLength: request.length };
    await this.#body(request, { provider: ladder.provider('buffered'), capabilities });
  }

  /** Moves an aligned range, going on from wherever the provider stopped. */
  async #body(request: CopyRequest, rung: Rung): Promise<void> {
    const { ladder, tally, signal } = this.#parts;
    const { provider, capabilities } = rung;
    let rest = request;
    while (rest.length > 0) {
      throwIfAborted(signal, 'transfer');
      const { source, sourceOffset, target, targetOffset } = rest;
      const length = Math.min(rest.length, capabilities.maxLength);
      const write = { token: source.token, tokenOffset: sourceOffset, target, targetOffset, length };
      const result = await ladder.write(rung, source.file, signal ? { ...write, signal } : write);
      if (result.status === 'unsupported') {
        ladder.fail(source.file, target, provider, result);
        return this.#copy(rest);
      }
      tally.add(provider.id, checkLength(result.length, length));
      rest = advance(rest, result.length);
      // It stopped between two units: what follows has an unaligned head now. Or it was only tried.
      const aligned = rest.sourceOffset % capabilities.alignment === 0;
      if (!aligned || rung.trial) return this.#copy(rest);
    }
  }
}

function isAligned(request: CopyRequest, rung: Rung): boolean {
  return (request.sourceOffset - request.targetOffset) % rung.capabilities.alignment === 0;
}

function checkLength(done: number, asked: number): number {
  if (done >= 1 && done <= asked) return done;
  throw new BugError(`a provider did ${done} of ${asked} bytes`);
}

function payloadOf(parts: readonly Part[]): number {
  return parts.reduce((sum, { source, length }) => sum + (source ? length : 0), 0);
}

function partsOf(requests: readonly Request[]): Part[] {
  const base = requests[0]?.targetOffset ?? 0;
  return requests.map((request) => {
    const part: Part = { at: request.targetOffset - base, length: request.length, sourceOffset: 0 };
    if (request.kind === 'copy') {
      part.source = request.source;
      part.sourceOffset = request.sourceOffset;
    }
    return part;
  });
}

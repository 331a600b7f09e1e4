/**
 * The transfer session: makes the contents of extents appear in a target.
 *
 * Extents are refined by the holes of their files, grouped, and each group is either moved through the
 * ladder of providers (`holes`) or read, searched for zeros and written (`scan`). Several groups are in
 * flight; a turnstile keeps allocation in disk order.
 *
 * Invariants: a prepared write is committed only after its bytes are in place, and aborted otherwise;
 * nothing runs any more when `transfer` returns or throws; at the end every source file is verified to be
 * what it was at the start. Flushing the target is the caller's business.
 */
import { setMaxListeners } from 'node:events';
import { throwIfAborted } from '../base/errors.js';
import type { DataExtent, Extent } from '../block/extent.js';
import { splitRequest } from '../block/split-request.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import { BufferPool } from './buffer-pool.js';
import { Gatherer } from './gather.js';
import { Ladder, type LadderMemory } from './ladder.js';
import type { OffloadProvider } from './offload-provider.js';
import { type DataPiece, type Group, groups, type Policy, refine, SCAN_WINDOW } from './pieces.js';
import { planRequests } from './plan.js';
import { PreparedWrites, type Ticket, Turnstile } from './prepared-writes.js';
import { standardProviders } from './provider-set.js';
import { limited } from './rate-limit.js';
import { type MoverParts, RequestMover } from './request-mover.js';
import { Lanes } from './run-limited.js';
import { ScanMover } from './scan-mover.js';
import { HoleFinder, Sources } from './sources.js';
import { Tally } from './tally.js';
import type { TokenManager } from './token-manager.js';
import type { BytesMoved, Forecast, TransferOptions, TransferTarget } from './transfer-types.js';

/** Buffers of one scan window each: 6 MiB, 8 MiB with the scratch buffers for short parts. */
const BUFFER_COUNT = 6;
/** Not more than there are buffers: a group that waits for its turn with a buffer in hand leaves one to others. */
const GROUPS_IN_FLIGHT = BUFFER_COUNT;

export interface SessionOptions extends TransferOptions {
  manager: TokenManager;
  /** Instead of the usual ones; one that reads and writes (`buffered`) and `zero` must be among them. */
  providers?: readonly OffloadProvider[];
  /** What other sessions of this process have found out about providers. */
  memory?: LadderMemory;
}

/**
 * Moves the bytes of the extents to the same offsets of the target.
 *
 * `extents` are in disk order and without overlaps; `absent` must not occur. The four counts of the answer
 * add up to the length of all extents.
 * @throws OFFLOAD_UNSUPPORTED, SOURCE_CHANGED, CANCELLED, NO_SPACE, READ_ONLY, IO_FAILED, and what the
 *   extents or the target throw
 */
export async function transfer(
  extents: AsyncIterable<Extent>,
  target: TransferTarget,
  options: SessionOptions,
): Promise<BytesMoved> {
  const session = new Session(target, options);
  return session.run(extents);
}

/**
 * What `transfer` would answer, without reading payload or touching the target: payload that would be
 * scanned counts as not zero, and providers count as able to do what they claim.
 * @throws OFFLOAD_UNSUPPORTED, and what the extents throw
 */
export async function forecast(
  extents: AsyncIterable<Extent>,
  target: TransferTarget,
  options: SessionOptions,
): Promise<Forecast> {
  const session = new Session(target, options);
  return session.forecast(extents);
}

/** Counts the allocation units that ranges in disk order touch. */
class BlockCounter {
  readonly #blockSize: number | undefined;
  /** Index behind the last unit counted. */
  #next = 0;
  count = 0;

  constructor(blockSize: number | undefined) {
    this.#blockSize = blockSize;
  }

  note(offset: number, length: number): void {
    if (this.#blockSize === undefined) return;
    const first = Math.max(this.#next, Math.floor(offset / this.#blockSize));
    this.#next = Math.floor((offset + length - 1) / this.#blockSize) + 1;
    this.count += this.#next - first;
  }
}

class Session {
  readonly #target: TransferTarget;
  readonly #options: SessionOptions;
  readonly #signal: AbortSignal;
  /** Makes everything in flight stop when one part fails. */
  readonly #stop = new AbortController();
  readonly #tally: Tally;
  readonly #sources: Sources;
  readonly #ladder: Ladder;
  readonly #writes: PreparedWrites;
  readonly #mover: RequestMover;
  readonly #scanner: ScanMover;
  readonly #turnstile = new Turnstile();

  constructor(target: TransferTarget, options: SessionOptions) {
    const { manager, signal, rateLimit } = options;
    const pool = new BufferPool(SCAN_WINDOW, BUFFER_COUNT);
    const providers = options.providers ?? standardProviders(manager, pool);
    this.#target = target;
    this.#options = options;
    this.#signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    // Everything in flight may wait on it: that is no leak.
    setMaxListeners(0, this.#signal);
    this.#tally = new Tally(options.onProgress, options.onCost);
    this.#sources = new Sources(manager, target.file);
    const paced = providers.map((provider) =>
      rateLimit && (provider.id === 'kernel' || provider.id === 'buffered')
        ? limited(provider, rateLimit)
        : provider,
    );
    this.#ladder = new Ladder(paced, options.provider, options.memory);
    this.#writes = new PreparedWrites(target);
    const parts: MoverParts = {
      ladder: this.#ladder,
      zero: this.#ladder.provider('zero'),
      gatherer: new Gatherer(manager),
      pool,
      tally: this.#tally,
      unwrittenIsZero: target.unwrittenIsZero,
      rateLimit,
      signal: this.#signal,
    };
    this.#mover = new RequestMover(parts);
    const { blockSize } = target;
    this.#scanner = new ScanMover({ ...parts, mover: this.#mover, writes: this.#writes, blockSize });
  }

  async run(extents: AsyncIterable<Extent>): Promise<BytesMoved> {
    const lanes = new Lanes(GROUPS_IN_FLIGHT);
    try {
      for await (const group of this.#groups(extents)) {
        throwIfAborted(this.#options.signal, 'transfer');
        if (group.kind === 'zero' && this.#target.unwrittenIsZero) this.#tally.add('zero', group.length);
        else await lanes.add(() => this.#runGroup(group));
      }
      await lanes.finish();
      await this.#sources.verifyUnchanged();
      return this.#tally.moved;
    } finally {
      this.#stop.abort();
      await lanes.settle();
      await this.#sources.release();
    }
  }

  async forecast(extents: AsyncIterable<Extent>): Promise<Forecast> {
    const blocks = new BlockCounter(this.#target.blockSize);
    let scanned = 0;
    try {
      for await (const group of this.#groups(extents)) {
        throwIfAborted(this.#options.signal, 'transfer');
        if (group.kind !== 'zero') blocks.note(group.offset, group.length);
        if (group.kind === 'scan' || group.kind === 'peek') scanned += group.length;
        for (const piece of group.pieces) {
          if (piece.state === 'zero') this.#tally.add('zero', piece.length);
          else this.#forecastPiece(piece);
        }
      }
      return { bytes: this.#tally.moved, blocks: blocks.count, scanned };
    } finally {
      await this.#sources.release();
    }
  }

  #groups(extents: AsyncIterable<Extent>): AsyncGenerator<Group> {
    const resolve = async (extent: DataExtent) => ({
      source: await this.#sources.of(extent.file),
      policy: this.#policy(extent),
    });
    return groups(refine(extents, new HoleFinder(), resolve));
  }

  /** Settles the policy of an extent. @throws OFFLOAD_UNSUPPORTED when the chosen provider can't do the pair */
  #policy(extent: DataExtent): Policy {
    const { zeros, provider } = this.#options;
    const target = this.#target.file;
    if (provider !== 'auto' && this.#ladder.rungs(extent.file, target).length === 0) {
      throw this.#ladder.unsupported(extent.file, target);
    }
    if (zeros === 'holes' || (zeros === 'auto' && provider === 'reflink')) return 'holes';
    if (zeros === 'auto') {
      const rung = this.#ladder.sharing(extent.file, target);
      // Formats place payload at multiples of file system blocks: only a source may be shifted against them.
      if (rung && (extent.fileOffset - extent.offset) % rung.capabilities.alignment === 0) return 'holes';
    }
    return this.#canPeek(extent.file) ? 'peek' : 'scan';
  }

  /** Whether zeros are found by peeking: the kernel will copy, and says what is in memory. */
  #canPeek(source: RandomAccessFile): boolean {
    const { provider } = this.#options;
    if (source.peek === undefined || (!this.#ladder.isOpen && provider !== 'kernel')) return false;
    return this.#ladder.rungs(source, this.#target.file).some((rung) => rung.provider.id === 'kernel');
  }

  async #runGroup(group: Group): Promise<void> {
    // Taken before anything is awaited: the order of groups is the order of tickets.
    const ticket = this.#turnstile.ticket();
    try {
      throwIfAborted(this.#signal, 'transfer');
      if (group.kind === 'scan' || group.kind === 'peek') await this.#scanner.run(group, ticket);
      else await this.#move(group, ticket);
    } catch (error) {
      this.#stop.abort(error);
      throw error;
    } finally {
      ticket.leave();
    }
  }

  async #move(group: Group, ticket: Ticket): Promise<void> {
    await ticket.enter();
    const prepared = await this.#writes.prepare(group.offset, group.length);
    ticket.leave();
    try {
      await this.#mover.run(planRequests(group.pieces, prepared.places));
      await prepared.commit();
    } catch (error) {
      await prepared.abort().catch(() => undefined);
      throw error;
    }
  }

  #forecastPiece(piece: DataPiece): void {
    const { file } = piece.source;
    const target = this.#target.file;
    const { isOpen } = this.#ladder;
    const scanned = piece.policy === 'scan' && isOpen;
    const [rung] = scanned ? [] : this.#ladder.rungs(file, target);
    if (rung?.provider.id !== 'reflink') {
      this.#tally.add(rung?.provider.id ?? 'buffered', piece.length);
      return;
    }
    const { alignment } = rung.capabilities;
    if ((piece.sourceOffset - piece.offset) % alignment !== 0) {
      const why = `offset ${piece.sourceOffset} can't go to ${piece.offset} in units of ${alignment}`;
      if (!isOpen) throw this.#ladder.unsupported(file, target, why);
      const [, next] = this.#ladder.rungs(file, target);
      this.#tally.add(next?.provider.id ?? 'buffered', piece.length);
      return;
    }
    const { head, body, tail } = splitRequest(piece.sourceOffset, piece.length, alignment);
    this.#tally.add('reflink', body);
    this.#tally.add('buffered', head + tail);
  }
}

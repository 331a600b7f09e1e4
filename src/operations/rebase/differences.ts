/**
 * Where two disks differ, found with as little reading as possible.
 *
 * Invariants: ranges that are stored at the same place of the same file, and ranges without stored bytes on
 * both sides, are equal without being read; everything else is read and compared in chunks. What lies
 * behind the end of a disk is zero. Memory is bounded by the range that is asked about at once.
 */
import { KiB, MiB, roundUp } from '../../base/bytes.js';
import { throwIfAborted } from '../../base/errors.js';
import { isZero } from '../../base/zeros.js';
import { clipExtent, type Extent, pushExtent } from '../../block/extent.js';
import type { Chain } from '../../formats/chain.js';
import { type FileIdentity, type FileSystem, sameFile } from '../../io/file-system.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';

/** Bytes read of each side at once. */
const WINDOW = MiB;
/** What differs somewhere in a chunk (counted from the start of the disk) counts as different as a whole. */
const CHUNK = 64 * KiB;

/** A chain that goes on with zeros behind its end. */
export class Endless {
  readonly #chain: Chain;

  constructor(chain: Chain) {
    this.#chain = chain;
  }

  /** Data and zeros; holes of the files are zeros. */
  async locate(offset: number, length: number): Promise<Extent[]> {
    const extents: Extent[] = [];
    const inside = Math.max(0, Math.min(length, this.#chain.virtualSize - offset));
    if (inside > 0) {
      for (const { depth: _, ...extent } of await this.#chain.locate(offset, inside)) {
        for (const part of withoutHoles(extent)) pushExtent(extents, part);
      }
    }
    pushExtent(extents, { state: 'zero', offset: offset + inside, length: length - inside });
    return extents;
  }
}

/** The extent, cut at the holes of its file. Short ones are not worth the question. */
function* withoutHoles(extent: Extent): Generator<Extent> {
  if (extent.state !== 'data' || extent.length < CHUNK) {
    yield extent;
    return;
  }
  const { file, fileOffset } = extent;
  const shift = extent.offset - fileOffset;
  const end = fileOffset + extent.length;
  for (let at = fileOffset; at < end; ) {
    const run = file.nextData(at, end);
    const start = run ? run.offset : end;
    yield { state: 'zero', offset: at + shift, length: start - at };
    if (!run) return;
    yield { state: 'data', offset: start + shift, length: run.length, file, fileOffset: start };
    at = start + run.length;
  }
}

/** Tells whether two open files are one. */
class Identities {
  readonly #fileSystem: FileSystem;
  readonly #known = new Map<RandomAccessFile, FileIdentity | undefined>();

  constructor(fileSystem: FileSystem) {
    this.#fileSystem = fileSystem;
  }

  async same(a: RandomAccessFile, b: RandomAccessFile): Promise<boolean> {
    if (a === b) return true;
    const one = await this.#of(a);
    const other = await this.#of(b);
    return one !== undefined && other !== undefined && sameFile(one, other);
  }

  async #of(file: RandomAccessFile): Promise<FileIdentity | undefined> {
    if (!this.#known.has(file)) {
      this.#known.set(file, file.fingerprint() ?? (await this.#fileSystem.identity(file.path)));
    }
    return this.#known.get(file);
  }
}

async function fill(buffer: Uint8Array, extent: Extent): Promise<void> {
  if (extent.state !== 'data') {
    buffer.fill(0);
    return;
  }
  buffer.fill(0, await extent.file.read(buffer, extent.fileOffset));
}

export class Differences {
  readonly #old: Endless;
  readonly #new: Endless;
  readonly #identities: Identities;
  readonly #signal: AbortSignal | undefined;
  readonly #buffers = [Buffer.alloc(WINDOW), Buffer.alloc(WINDOW)] as const;
  /** Bytes of the disk whose content had to be read to compare them. */
  compared = 0;

  constructor(oldDisk: Chain, newDisk: Chain, fileSystem: FileSystem, signal?: AbortSignal) {
    this.#old = new Endless(oldDisk);
    this.#new = new Endless(newDisk);
    this.#identities = new Identities(fileSystem);
    this.#signal = signal;
  }

  /**
   * The parts of the range in which the disks differ, as the old disk has them: data or zero, in order.
   * Ask for a few MiB at a time.
   */
  async within(offset: number, length: number): Promise<Extent[]> {
    const different: Extent[] = [];
    const others = await this.#new.locate(offset, length);
    let index = 0;
    for (const mine of await this.#old.locate(offset, length)) {
      const end = mine.offset + mine.length;
      for (let at = mine.offset; at < end; ) {
        const other = others[index] as Extent;
        const stop = Math.min(end, other.offset + other.length);
        const pair = [clipExtent(mine, at, stop - at), clipExtent(other, at, stop - at)] as const;
        await this.#comparePair(pair, different);
        at = stop;
        if (other.offset + other.length === stop) index += 1;
      }
    }
    return different;
  }

  async #comparePair([mine, other]: readonly [Extent, Extent], different: Extent[]): Promise<void> {
    if (mine.state !== 'data' && other.state !== 'data') return;
    if (mine.state === 'data' && other.state === 'data') {
      const samePlace = mine.fileOffset === other.fileOffset;
      if (samePlace && (await this.#identities.same(mine.file, other.file))) return;
    }
    const end = mine.offset + mine.length;
    for (let at = mine.offset; at < end; ) {
      throwIfAborted(this.#signal, 'compare parents');
      // Windows end at multiples of their size, so that chunks are counted from the start of the disk.
      const count = Math.min(roundUp(at + 1, WINDOW), end) - at;
      await this.#compareWindow(clipExtent(mine, at, count), clipExtent(other, at, count), different);
      at += count;
    }
  }

  async #compareWindow(mine: Extent, other: Extent, different: Extent[]): Promise<void> {
    const { offset, length } = mine;
    const a = this.#buffers[0].subarray(0, length);
    const b = this.#buffers[1].subarray(0, length);
    const onlyOne = mine.state !== 'data' ? b : other.state !== 'data' ? a : undefined;
    if (onlyOne === a) await fill(a, mine);
    else if (onlyOne === b) await fill(b, other);
    else await Promise.all([fill(a, mine), fill(b, other)]);
    this.compared += length;
    for (let at = 0; at < length; ) {
      const count = Math.min(roundUp(offset + at + 1, CHUNK) - offset, length) - at;
      const equal = onlyOne
        ? isZero(onlyOne.subarray(at, at + count))
        : a.compare(b, at, at + count, at, at + count) === 0;
      if (!equal) pushExtent(different, clipExtent(mine, offset + at, count));
      at += count;
    }
  }
}

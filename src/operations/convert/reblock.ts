/**
 * A disk with some of its bytes replaced: the first and last sectors, where partition tables are.
 *
 * Invariants: everything that is not replaced is located where the disk itself has it, so that payload can
 * still be shared or copied by the storage. Replaced ranges begin and end at multiples of 4 KiB, so they
 * don't take that possibility from their neighbours; what an edit leaves alone in such a range keeps its
 * bytes. Beyond the end of the disk underneath there are zeros.
 */
import { assert } from '../../base/assert.js';
import { roundDown, roundUp } from '../../base/bytes.js';
import { type ChainExtent, type Locator, pushExtent } from '../../block/extent.js';
import { Chain } from '../../formats/chain.js';
import { assertInsideDisk, readDisk } from '../../formats/image-reader.js';
import type { Edit } from '../../guestfs/resector.js';
import { MemoryFile } from '../../io/memory-file.js';

const ALIGNMENT = 4096;

interface Range {
  offset: number;
  length: number;
}

interface Patch extends Range {
  /** Where its bytes are in the memory file. */
  fileOffset: number;
}

/** The ranges that the edits touch: aligned, merged where they meet, in order, clipped to the disk. */
function touched(edits: readonly Edit[], size: number): Range[] {
  const ranges = edits.map(({ offset, bytes }) => ({
    start: roundDown(offset, ALIGNMENT),
    end: Math.min(roundUp(offset + bytes.length, ALIGNMENT), size),
  }));
  const merged: { start: number; end: number }[] = [];
  for (const range of ranges.sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last && range.start <= last.end) last.end = Math.max(last.end, range.end);
    else merged.push({ ...range });
  }
  return merged.map(({ start, end }) => ({ offset: start, length: end - start }));
}

/** The bytes of a range of the disk underneath, zeros behind its end. */
async function original(disk: Locator, range: Range): Promise<Uint8Array> {
  const bytes = new Uint8Array(range.length);
  const inside = Math.max(0, Math.min(range.length, disk.virtualSize - range.offset));
  if (inside > 0) await readDisk(disk, bytes.subarray(0, inside), range.offset);
  return bytes;
}

function apply(edit: Edit, range: Range, bytes: Uint8Array): void {
  const start = edit.offset - range.offset;
  if (start >= 0 && start < range.length) bytes.set(edit.bytes, start);
}

/** A chain that shows other bytes in some places, and may be longer. Owns the images as the chain did. */
export class PatchedChain extends Chain {
  override readonly virtualSize: number;
  readonly #disk: Chain;
  readonly #file: MemoryFile;
  readonly #patches: readonly Patch[];

  private constructor(disk: Chain, size: number, file: MemoryFile, patches: readonly Patch[]) {
    super(disk.images);
    this.#disk = disk;
    this.virtualSize = size;
    this.#file = file;
    this.#patches = patches;
  }

  /**
   * @param size bytes of the patched disk; not less than the disk's
   * @param edits inside `size`; later ones win
   * @throws what reading the disk throws
   */
  static async create(disk: Chain, size: number, edits: readonly Edit[]): Promise<PatchedChain> {
    assert(size >= disk.virtualSize, 'a patched disk is not smaller than the disk underneath');
    assert(
      edits.every(({ offset, bytes }) => offset >= 0 && offset + bytes.length <= size),
      'an edit lies inside the disk',
    );
    const file = new MemoryFile(undefined, 'the rewritten partition table');
    const patches: Patch[] = [];
    for (const range of touched(edits, size)) {
      const bytes = await original(disk, range);
      for (const edit of edits) apply(edit, range, bytes);
      const fileOffset = roundUp(file.size(), ALIGNMENT);
      await file.write(bytes, fileOffset);
      patches.push({ ...range, fileOffset });
    }
    return new PatchedChain(disk, size, file, patches);
  }

  override async locate(offset: number, length: number): Promise<ChainExtent[]> {
    assertInsideDisk(this.virtualSize, offset, length, this.#file.path);
    const extents: ChainExtent[] = [];
    const end = offset + length;
    let at = offset;
    for (const patch of this.#patches) {
      const start = Math.max(patch.offset, offset);
      const stop = Math.min(patch.offset + patch.length, end);
      if (start >= stop) continue;
      await this.#underneath(at, start, extents);
      const fileOffset = patch.fileOffset + (start - patch.offset);
      pushExtent(extents, {
        state: 'data',
        offset: start,
        length: stop - start,
        file: this.#file,
        fileOffset,
        depth: 0,
      });
      at = stop;
    }
    await this.#underneath(at, end, extents);
    return extents;
  }

  /** What the disk itself has in `[start, end)`. */
  async #underneath(start: number, end: number, out: ChainExtent[]): Promise<void> {
    const stop = Math.max(start, Math.min(end, this.#disk.virtualSize));
    if (stop > start)
      for (const extent of await this.#disk.locate(start, stop - start)) pushExtent(out, extent);
    pushExtent(out, { state: 'zero', offset: stop, length: end - stop, depth: 0 });
  }
}

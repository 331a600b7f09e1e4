/**
 * Looks at a whole block table before an image is changed.
 *
 * Invariant: what passes has every block inside the file, over no structure and over no other block, so that
 * writing into one block changes no other. Memory: four bytes for each allocated block, given back at once.
 */
import { UNALLOCATED } from './bat.js';
import { type BlockRules, judgeEntry, placeOf } from './block-place.js';
import { type VhdDefect, vhdError } from './defects.js';
import { SECTOR_BYTES } from './dynamic-header.js';

interface SurveySource {
  readonly rules: BlockRules;
  pages(): AsyncIterable<{ first: number; entries: Uint32Array }>;
  entryOffset(block: number): number;
}

/** Sector numbers, as many as there are. */
class SectorList {
  #sectors = new Uint32Array(1024);
  #count = 0;

  add(sector: number): void {
    if (this.#count === this.#sectors.length) {
      const larger = new Uint32Array(this.#count * 2);
      larger.set(this.#sectors);
      this.#sectors = larger;
    }
    this.#sectors[this.#count] = sector;
    this.#count += 1;
  }

  sorted(): Uint32Array {
    return this.#sectors.subarray(0, this.#count).sort();
  }
}

/**
 * @param path for messages
 * @returns the byte offset where the last block ends, whole; 0 without blocks
 * @throws IMAGE_CORRUPT, IO_FAILED
 */
export async function surveyBlocks(source: SurveySource, path: string): Promise<number> {
  const { rules } = source;
  const { table } = rules;
  const refuse = (defect: VhdDefect, message: string, offset: number): never => {
    throw vhdError('IMAGE_CORRUPT', defect, message, { path, offset });
  };
  const list = new SectorList();
  for await (const { first, entries } of source.pages()) {
    for (const [index, entry] of entries.entries()) {
      if (entry === UNALLOCATED) continue;
      const block = first + index;
      const problem = judgeEntry(block, entry, rules);
      if (problem) refuse(problem.defect, problem.message, source.entryOffset(block));
      const used = Math.min(table.blockSize, rules.virtualSize - block * table.blockSize);
      const place = placeOf(entry, rules);
      if (place.dataOffset + used > place.dataEnd) {
        const message = `block ${block} is cut off by the end of the file`;
        refuse('VHD_BLOCK_CUT', message, source.entryOffset(block));
      }
      list.add(entry);
    }
  }
  const stride = (table.bitmapBytes + table.blockSize) / SECTOR_BYTES;
  const sectors = list.sorted();
  for (let index = 1; index < sectors.length; index += 1) {
    const here = sectors[index] ?? 0;
    if (here - (sectors[index - 1] ?? 0) >= stride) continue;
    refuse('VHD_BLOCKS_OVERLAP', 'two blocks share the same place', here * SECTOR_BYTES);
  }
  return ((sectors.at(-1) ?? -stride) + stride) * SECTOR_BYTES;
}

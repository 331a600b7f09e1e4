/**
 * Changing the headers of an existing image (MS-VHDX 2.2.2).
 *
 * Invariant: the copy that is current stays untouched until the other one holds the new values durably, so
 * one valid header is there at every instant. Afterwards both copies are the same but for the sequence
 * number: equal twins and a damaged copy are mended by the first update.
 */
import { assert } from '../../base/assert.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { encodeHeader, type VhdxHeader } from './header.js';
import { HEADER_OFFSETS } from './layout.js';

/** What an update may change. */
export type HeaderChange = Partial<Omit<VhdxHeader, 'sequence' | 'version'>>;

/** Updates that a sequence number must leave room for; each takes two. */
const HEADROOM = 2n ** 16n;

export class HeaderWriter {
  readonly #file: RandomAccessFile;
  #header: VhdxHeader;
  #slot: number;

  /** @param offset byte offset of the copy that is current */
  constructor(file: RandomAccessFile, header: VhdxHeader, offset: number) {
    this.#file = file;
    this.#header = header;
    this.#slot = HEADER_OFFSETS.indexOf(offset);
    assert(this.#slot >= 0, 'a header is at one of its two places');
  }

  /** The header that is current. */
  get header(): Readonly<VhdxHeader> {
    return this.#header;
  }

  /** False when the sequence number can't be raised any more. */
  get canUpdate(): boolean {
    return this.#header.sequence < 2n ** 64n - HEADROOM;
  }

  /** Writes the change to both copies, one after the other. Durable when it returns. @throws IO_FAILED */
  async update(change: HeaderChange): Promise<void> {
    for (let round = 0; round < HEADER_OFFSETS.length; round += 1) {
      const next = { ...this.#header, ...change, sequence: this.#header.sequence + 1n };
      const slot = (this.#slot + 1) % HEADER_OFFSETS.length;
      await this.#file.write(encodeHeader(next), HEADER_OFFSETS[slot] ?? 0);
      await this.#file.flush();
      this.#header = next;
      this.#slot = slot;
    }
  }
}

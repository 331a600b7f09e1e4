/**
 * Reading many parts of files into one buffer with few reads.
 *
 * Short parts that lie close together in the same file (the sectors of a differencing block, say) are read
 * in one go through a scratch buffer and picked out of it.
 */
import { KiB } from '../base/bytes.js';
import { BufferPool } from './buffer-pool.js';
import { runLimited } from './run-limited.js';
import type { Source } from './sources.js';
import type { TokenManager } from './token-manager.js';
import { readThroughToken } from './token-reader.js';

/** A part of the buffer and where its bytes are; without a source it is zeros. */
export interface Part {
  /** Within the buffer. */
  at: number;
  length: number;
  source?: Source;
  sourceOffset: number;
}

interface DataPart extends Part {
  source: Source;
}

/** Parts of one file that are read together. */
interface Span {
  source: Source;
  start: number;
  end: number;
  parts: DataPart[];
}

const SHORT_PART = 16 * KiB;
const SHORT_GAP = 16 * KiB;
const SCRATCH_SIZE = 256 * KiB;
const SCRATCH_COUNT = 8;
const READS_IN_FLIGHT = 4;

function isData(part: Part): part is DataPart {
  return part.source !== undefined;
}

/** Which parts are read together. Parts are in buffer order; those of one file need not be adjacent. */
function spansOf(parts: readonly Part[]): Span[] {
  const spans: Span[] = [];
  const open = new Map<Source, Span>();
  for (const part of parts) {
    if (!isData(part)) continue;
    const { source, sourceOffset, length } = part;
    const end = sourceOffset + length;
    const span = open.get(source);
    const near = span && sourceOffset >= span.end && sourceOffset - span.end <= SHORT_GAP;
    if (near && length <= SHORT_PART && end - span.start <= SCRATCH_SIZE) {
      span.parts.push(part);
      span.end = end;
      continue;
    }
    const fresh: Span = { source, start: sourceOffset, end, parts: [part] };
    spans.push(fresh);
    if (length <= SHORT_PART) open.set(source, fresh);
    else open.delete(source);
  }
  return spans;
}

export class Gatherer {
  readonly #manager: TokenManager;
  readonly #scratch = new BufferPool(SCRATCH_SIZE, SCRATCH_COUNT);

  constructor(manager: TokenManager) {
    this.#manager = manager;
  }

  /** Fills the parts of the buffer. What no part covers is left as it is. */
  async fill(buffer: Uint8Array, parts: readonly Part[]): Promise<void> {
    for (const part of parts) {
      if (!part.source) buffer.fill(0, part.at, part.at + part.length);
    }
    await runLimited(spansOf(parts), READS_IN_FLIGHT, (span) => this.#read(buffer, span));
  }

  async #read(buffer: Uint8Array, span: Span): Promise<void> {
    const { token } = span.source;
    const [only, second] = span.parts;
    if (only && !second) {
      await readThroughToken(
        this.#manager,
        token,
        buffer.subarray(only.at, only.at + only.length),
        span.start,
      );
      return;
    }
    await this.#scratch.with(async (scratch) => {
      await readThroughToken(this.#manager, token, scratch.subarray(0, span.end - span.start), span.start);
      for (const { at, sourceOffset, length } of span.parts) {
        const from = sourceOffset - span.start;
        buffer.set(scratch.subarray(from, from + length), at);
      }
    });
  }
}

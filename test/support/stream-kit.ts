/**
 * What tests of streamed conversions share: a host whose ids and times repeat, streams in and out of memory.
 */
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import type { Host } from '../../src/operations/host.js';
import { systemHost } from '../../src/operations/host.js';

/** A host that gives the same ids and times in the same order each time it is made. */
export function repeatableHost(): Host {
  let counter = 0;
  return {
    ...systemHost(),
    fileSystem: nodeFileSystem,
    clock: { now: () => 1_700_000_000_000 },
    random: {
      bytes(count) {
        counter += 1;
        return Uint8Array.from({ length: count }, (_, at) => (counter * 31 + at * 7) & 0xff);
      },
    },
  };
}

/** A sink that keeps everything. */
export class Collected {
  readonly #chunks: Buffer[] = [];

  async write(bytes: Uint8Array): Promise<void> {
    // The writer may use its buffer again.
    this.#chunks.push(Buffer.from(bytes));
  }

  bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

/** The bytes as a stream, in chunks of the sizes given, over and over. */
export async function* streamOf(
  bytes: Uint8Array,
  sizes: readonly number[] = [65_536],
): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (let turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

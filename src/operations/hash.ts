/**
 * `hash`: the SHA-256 of a disk's content, the same for every format that holds the same disk.
 *
 * The digest is over all bytes of the virtual disk, zeros included; ranges that are not stored are fed
 * from one zero buffer and cost no reading.
 */
import { createHash } from 'node:crypto';
import { throwIfAborted } from '../base/errors.js';
import { walkExtents } from '../block/extent.js';
import { type Chain, openChain } from '../formats/chain.js';
import type { FormatId } from '../formats/disk-image.js';
import { readDisk } from '../formats/image-reader.js';
import type { Host, ProgressSink } from './host.js';

const CHUNK = 1024 * 1024;

export interface HashOptions {
  path: string;
  format?: FormatId;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface HashResult {
  path: string;
  format: FormatId;
  virtualSize: number;
  /** Lower-case hex. */
  sha256: string;
}

/** @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, IO_FAILED, CANCELLED */
export async function hash(host: Host, options: HashOptions): Promise<HashResult> {
  const chain = await openChain(
    host.fileSystem,
    options.path,
    options.format ? { format: options.format } : {},
  );
  try {
    const sha256 = await hashChain(chain, options);
    return { path: options.path, format: chain.top.format, virtualSize: chain.virtualSize, sha256 };
  } finally {
    await chain.close();
  }
}

/** The digest of an open chain. Reads ahead by one chunk while the last one is hashed. */
export async function hashChain(
  chain: Chain,
  options: { signal?: AbortSignal; progress?: ProgressSink } = {},
): Promise<string> {
  const digest = createHash('sha256');
  const zeros = new Uint8Array(CHUNK);
  const buffers = [new Uint8Array(CHUNK), new Uint8Array(CHUNK)];
  const size = chain.virtualSize;
  for await (const extent of walkExtents(chain, { offset: 0, length: size })) {
    const end = extent.offset + extent.length;
    let pending: Promise<Uint8Array> | undefined;
    for (let at = extent.offset, turn = 0; at < end; at += CHUNK, turn += 1) {
      throwIfAborted(options.signal, 'hash');
      const count = Math.min(CHUNK, end - at);
      if (extent.state !== 'data') {
        digest.update(zeros.subarray(0, count));
      } else {
        const ready = pending ?? load(chain, buffers[turn % 2] as Uint8Array, at, count);
        const next = at + CHUNK;
        pending =
          next < end
            ? load(chain, buffers[(turn + 1) % 2] as Uint8Array, next, Math.min(CHUNK, end - next))
            : undefined;
        // Not awaited yet: a failure must not count as unhandled before its turn comes.
        pending?.catch(() => undefined);
        digest.update(await ready);
      }
      options.progress?.update(at + count, size);
    }
  }
  return digest.digest('hex');
}

async function load(chain: Chain, buffer: Uint8Array, offset: number, length: number): Promise<Uint8Array> {
  const part = buffer.subarray(0, length);
  await readDisk(chain, part, offset);
  return part;
}

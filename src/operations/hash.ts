/**
 * `hash`: the SHA-256 of a disk's content, the same for every format that holds the same disk.
 *
 * The digest is over all bytes of the virtual disk, zeros included, parents included. A disk consists of
 * whole sectors: a raw file with a length that is no multiple of 512 is hashed with zeros up to the next
 * one, which is the disk that a VHD or VHDX made of it holds. For all other raw files the digest is the
 * one that `sha256sum` prints.
 */
import { createHash, type Hash } from 'node:crypto';
import { roundUp } from '../base/bytes.js';
import type { Chain } from '../formats/chain.js';
import type { FormatId } from '../formats/disk-image.js';
import { type Content, contentOf } from './content-stream.js';
import type { Host, ProgressSink } from './host.js';
import { openWholeChain } from './whole-chain.js';

/** Disks are made of sectors of this size, or of a multiple of it. */
const SECTOR_BYTES = 512;
const ZEROS = new Uint8Array(1024 * 1024);

export interface HashOptions {
  path: string;
  format?: FormatId;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface HashResult {
  path: string;
  format: FormatId;
  /** Bytes that were hashed: the disk in whole sectors. */
  virtualSize: number;
  /** Lower-case hex. */
  sha256: string;
}

/** @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_MISSING, PARENT_MISMATCH, IO_FAILED, CANCELLED */
export async function hash(host: Host, options: HashOptions): Promise<HashResult> {
  const chain = await openWholeChain(host, options.path, options.format ? { format: options.format } : {});
  try {
    const sha256 = await hashChain(chain, options);
    const virtualSize = roundUp(chain.virtualSize, SECTOR_BYTES);
    return { path: options.path, format: chain.top.format, virtualSize, sha256 };
  } finally {
    await chain.close();
  }
}

/** A SHA-256 that is fed with pieces of a disk. */
export class ContentDigest {
  readonly #hash: Hash = createHash('sha256');
  #length = 0;

  /** The next piece: bytes, or that many zeros. */
  update(length: number, bytes: Uint8Array | undefined): void {
    this.#length += length;
    if (bytes) {
      this.#hash.update(bytes);
      return;
    }
    for (let done = 0; done < length; done += ZEROS.length)
      this.#hash.update(ZEROS.subarray(0, Math.min(ZEROS.length, length - done)));
  }

  /** Lower-case hex, the last sector filled up. Nothing can be added afterwards. */
  finish(): string {
    const rest = roundUp(this.#length, SECTOR_BYTES) - this.#length;
    this.#hash.update(ZEROS.subarray(0, rest));
    return this.#hash.digest('hex');
  }
}

/** The digest of an open chain. */
export async function hashChain(
  chain: Chain,
  options: { signal?: AbortSignal; progress?: ProgressSink } = {},
): Promise<string> {
  const digest = new ContentDigest();
  const size = chain.virtualSize;
  const feed = ({ offset, length, bytes }: Content): void => {
    digest.update(length, bytes);
    options.progress?.update(offset + length, size);
  };
  for await (const piece of contentOf(chain, options.signal)) feed(piece);
  return digest.finish();
}

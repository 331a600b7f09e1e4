/**
 * `map`: where every byte of a disk is.
 */
import { isVhdkitError, throwIfAborted, type VhdkitError } from '../base/errors.js';
import { walkExtents } from '../block/extent.js';
import { type Chain, openChain } from '../formats/chain.js';
import type { FormatId } from '../formats/disk-image.js';
import type { Host } from './host.js';

export interface MapOptions {
  path: string;
  format?: FormatId;
  /** Only this image's own data; what its parents hold stays `absent`. */
  withoutParent?: boolean;
  signal?: AbortSignal;
}

export interface MapEntry {
  offset: number;
  length: number;
  state: 'data' | 'zero' | 'absent';
  /** Data only: the file the bytes are in. */
  file?: string;
  fileOffset?: number;
  /** Position of the answering image in the chain; 0 is the image itself. */
  depth: number;
}

export interface DiskMap {
  virtualSize: number;
  blockSize: number | null;
  /** Why the parents are not part of the map although they should be. */
  parentProblem: VhdkitError | undefined;
  /** In order, covering the disk exactly. */
  entries(): AsyncGenerator<MapEntry>;
  close(): Promise<void>;
}

const PARENT_PROBLEMS = new Set(['PARENT_MISSING', 'PARENT_MISMATCH']);

/**
 * Opens the map of a chain. Where a parent is missing or wrong, what only it knows is `absent` and
 * `parentProblem` says why.
 * @throws NOT_FOUND, FORMAT_UNKNOWN, IMAGE_CORRUPT, PARENT_LOOP, IO_FAILED
 */
export async function openMap(host: Host, options: MapOptions): Promise<DiskMap> {
  const { path, format, withoutParent, signal } = options;
  const openOptions = { ...(format ? { format } : {}) };
  let parentProblem: VhdkitError | undefined;
  const chain = await openChain(host.fileSystem, path, {
    ...openOptions,
    withoutParent: withoutParent ?? false,
  }).catch((error: unknown): Promise<Chain> => {
    if (!isVhdkitError(error) || !PARENT_PROBLEMS.has(error.code)) throw error;
    parentProblem = error;
    return openChain(host.fileSystem, path, { ...openOptions, withoutParent: true });
  });
  return {
    virtualSize: chain.virtualSize,
    blockSize: chain.top.blockSize ?? null,
    parentProblem,
    close: () => chain.close(),
    async *entries() {
      for await (const extent of walkExtents(chain, { offset: 0, length: chain.virtualSize })) {
        throwIfAborted(signal, 'map');
        const { offset, length, state, depth } = extent;
        if (extent.state !== 'data') yield { offset, length, state, depth };
        else yield { offset, length, state, file: extent.file.path, fileOffset: extent.fileOffset, depth };
      }
    },
  };
}

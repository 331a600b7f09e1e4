/**
 * `compact --to`: a compact copy, by a conversion that leaves out what is free. The image is only read.
 */
import { VhdkitError } from '../../base/errors.js';
import { type Chain, openChain } from '../../formats/chain.js';
import { openImage } from '../../formats/registry.js';
import { convert } from '../convert.js';
import type { Host } from '../host.js';
import { freeSpaceOf, storageOf } from './facts.js';
import { ChainWithoutFree, FreeRanges } from './free-ranges.js';
import { survey } from './give-back.js';
import type { CompactOptions, CompactResult } from './types.js';

/** @throws UNSUPPORTED for a differencing image, and what `convert` throws */
export async function compactInto(
  host: Host,
  options: CompactOptions,
  target: string,
): Promise<CompactResult> {
  const started = host.clock.now();
  const { path, progress, signal } = options;
  const chain = await openChain(host.fileSystem, path, options.format ? { format: options.format } : {});
  try {
    const { top } = chain;
    if (chain.images.length > 1) throw differencing(path);
    const before = await storageOf(top);
    const map = options.freeSpace ? await freeSpaceOf(chain) : undefined;
    const zeros = options.zeroBlocks ?? !options.freeSpace;
    const given = await survey(top, {
      zeros,
      ...(map ? { free: map.ranges() } : {}),
      ...(signal ? { signal } : {}),
      ...(progress ? { onProgress: (done: number) => progress.update(done, top.virtualSize) } : {}),
    });
    const free = map ? await FreeRanges.of(map.ranges()) : undefined;
    const copying = await options.onMove?.();
    const result = await convert(host, {
      source: path,
      target,
      from: top.format,
      to: top.format,
      ...(top.format === 'raw' || top.type === 'differencing' ? {} : { type: top.type }),
      ...(top.blockSize === undefined ? {} : { blockSize: top.blockSize }),
      provider: options.provider ?? 'auto',
      zeros: zeros ? 'scan' : 'holes',
      force: options.force ?? false,
      dryRun: options.dryRun ?? false,
      ...(free ? { shown: (all: Chain) => new ChainWithoutFree(all, free) } : {}),
      ...(options.rate === undefined ? {} : { rate: options.rate }),
      ...(signal ? { signal } : {}),
      ...(copying ? { progress: copying } : {}),
    });
    const after = options.dryRun
      ? { ...before, fileSize: result.fileSize }
      : await newFacts(host, target, options);
    const lost = before.fileSize - after.fileSize;
    return {
      path,
      target,
      format: top.format,
      type: top.type,
      virtualSize: top.virtualSize,
      before,
      after,
      reclaimed: {
        zeros: given.zeros,
        freeSpace: given.freeSpace,
        insideBlocks: given.insideBlocks,
        slack: top.blockSize === undefined ? 0 : Math.max(0, lost - given.zeros - given.freeSpace),
      },
      ...(map ? { volumes: map.reports } : {}),
      moved: { units: 0, bytes: 0 },
      bytes: result.bytes,
      elapsedMs: host.clock.now() - started,
      dryRun: options.dryRun ?? false,
    };
  } finally {
    await chain.close();
  }
}

async function newFacts(
  host: Host,
  target: string,
  options: CompactOptions,
): Promise<CompactResult['after']> {
  const image = await openImage(
    await host.fileSystem.open(target),
    options.format ? { format: options.format } : {},
  );
  try {
    return await storageOf(image);
  } finally {
    await image.close();
  }
}

function differencing(path: string): VhdkitError {
  return new VhdkitError(
    'UNSUPPORTED',
    `${path} is a differencing image: a compact copy would have no parent`,
    {
      operation: 'compact',
      context: { path },
      hint: 'Compact it in place, or merge its chain into a new image and compact that.',
    },
  );
}

/**
 * Merging into a new image: a conversion of the whole chain, which stays as it is.
 */
import { VhdkitError } from '../../base/errors.js';
import type { FormatId } from '../../formats/disk-image.js';
import { formatByExtension } from '../../formats/registry.js';
import { convert } from '../convert.js';
import type { Host } from '../host.js';
import { openWholeChain } from '../whole-chain.js';
import { assertHasParent } from './plan.js';
import type { MergeOptions, MergeResult } from './types.js';

async function chainOf(host: Host, child: string): Promise<{ format: FormatId; merged: string[] }> {
  const chain = await openWholeChain(host, child);
  try {
    assertHasParent(chain);
    return { format: chain.top.format, merged: chain.images.map((image) => image.file.path) };
  } finally {
    await chain.close();
  }
}

/** @throws what `convert` throws; NOT_FOUND (with `delete`), UNSUPPORTED */
export async function mergeIntoNew(host: Host, options: MergeOptions, target: string): Promise<MergeResult> {
  const { child } = options;
  if (options.delete) {
    throw new VhdkitError(
      'NOT_FOUND',
      `${target} is not there, so nothing can be merged into it and deleted`,
      {
        operation: 'plan merge',
        context: { path: target },
        hint: 'Name an image of the chain; or leave --delete away for a new image, which takes the place of none.',
      },
    );
  }
  const { format, merged } = await chainOf(host, child);
  const { provider, rate, signal, progress } = options;
  const {
    source: _source,
    to,
    from: _from,
    plan: _plan,
    ...result
  } = await convert(host, {
    source: child,
    target,
    to: formatByExtension(target) ?? format,
    dryRun: options.dryRun ?? false,
    ...(provider ? { provider } : {}),
    ...(rate === undefined ? {} : { rate }),
    ...(signal ? { signal } : {}),
    ...(progress ? { progress } : {}),
  });
  const { type, virtualSize, fileSize, bytes, elapsedMs, dryRun, warnings } = result;
  const changes = { relinked: [], stale: [], deleted: [] };
  const facts = { format: to, type, virtualSize, fileSize, bytes, elapsedMs, dryRun, warnings };
  return { child, target, created: true, merged, ...changes, ...facts };
}

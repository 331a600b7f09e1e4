/**
 * Opening a chain to read what its disk holds.
 *
 * Invariant: an image that is half-way back to a snapshot shows neither what it was nor what it is to be, so nobody reads
 * it for what it holds. `info` and `map`, which describe files, say or show what is there.
 */
import { VhdkitError } from '../base/errors.js';
import { type Chain, type OpenChainOptions, openChain } from '../formats/chain.js';
import type { Host } from './host.js';
import { snapshotsBeside } from './snapshot/present.js';

/** @throws IN_USE (half-way back to a snapshot), and what openChain throws */
export async function openWholeChain(
  host: Host,
  path: string,
  options: OpenChainOptions = {},
  fileSystem = host.fileSystem,
): Promise<Chain> {
  const chain = await openChain(fileSystem, path, options);
  try {
    for (const { format, file } of chain.images) {
      const found = format === 'raw' ? await snapshotsBeside(host, file) : undefined;
      if (found?.restoring !== undefined) throw halfWay(file.path, found.restoring);
    }
    return chain;
  } catch (error) {
    await chain.close();
    throw error;
  }
}

function halfWay(path: string, snapshot: string): VhdkitError {
  return new VhdkitError('IN_USE', `${path} is half-way back to its snapshot '${snapshot}'`, {
    operation: 'open image',
    context: { path, snapshot },
    hint: `Finish that first: vhdkit snapshot restore ${path} ${snapshot}`,
  });
}

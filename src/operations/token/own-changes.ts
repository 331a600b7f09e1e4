/**
 * Writing to images in place without ending the tokens of what is not written to.
 *
 * Invariant: a token store is never made for this, and nothing that goes wrong with one makes a write fail; the
 * tokens of the file are void then, as after any change.
 */
import { processIdentity } from '../../io/process-identity.js';
import { OwnChanges } from '../../offload/own-changes.js';
import type { TokenStore } from '../../offload/store/token-store.js';
import type { Host } from '../host.js';

/** The host, with tokens spared of files that are opened for writing and closed again. */
function sparing(host: Host, open: () => Promise<{ store: TokenStore; close(): Promise<void> }>): Host {
  const { system } = host.process ?? processIdentity();
  return {
    ...host,
    fileSystem: {
      ...host.fileSystem,
      async open(path, options) {
        const file = await host.fileSystem.open(path, options);
        // Devices and memory have nothing by which tokens could notice a change.
        if (!options?.writable || file.kind !== 'file') return file;
        return new OwnChanges(file, system, open).file;
      },
    },
  };
}

/** With a store that is open as long as the files are. */
export function sparingTokensOf(host: Host, store: TokenStore): Host {
  return sparing(host, async () => ({ store, close: async () => undefined }));
}

/** With this user's own store, if there is one; else nothing is different and nothing costs anything. */
export async function sparingTokens(host: Host): Promise<Host> {
  const { defaultTokenStoreExists, openTokenStore } = await import('../../offload/store/open.js');
  if (!(await defaultTokenStoreExists())) return host;
  return sparing(host, async () => {
    const store = await openTokenStore(undefined, { random: host.random });
    return { store, close: () => store.close() };
  });
}

/**
 * Opening files to change them without ending the tokens of what is not changed.
 *
 * Invariant: a token store is never made for this, and nothing that goes wrong with one makes a change fail; the
 * tokens of the file are void then, as after any change. A file without tokens that stays open for long is opened as
 * it is: following its changes costs nothing then.
 */
import { processIdentity } from '../../io/process-identity.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { type OpenedStore, OwnChanges, type OwnChangesOptions } from '../../offload/own-changes.js';
import { hasTokens } from '../../offload/settle-tokens.js';
import type { TokenStore } from '../../offload/store/token-store.js';
import type { Host } from '../host.js';

export interface ChangeOptions {
  /** Where the tokens are; default: this user's own store, if there is one. */
  tokens?: TokenStore;
  /** It stays open for long: tokens are not to wait for its end. Those that are bound meanwhile die with a change. */
  isServed?: boolean;
}

async function openOwnStore(host: Host): Promise<OpenedStore | undefined> {
  const { defaultTokenStoreExists, openTokenStore } = await import('../../offload/store/open.js');
  if (!(await defaultTokenStoreExists())) return undefined;
  const store = await openTokenStore(undefined, { random: host.random });
  return { store, close: () => store.close() };
}

async function hasAny(file: RandomAccessFile, { openStore, system }: OwnChangesOptions): Promise<boolean> {
  const opened = await openStore();
  try {
    const print = file.fingerprint();
    return opened !== undefined && print !== undefined && (await hasTokens(opened.store, print, system));
  } finally {
    await opened?.close();
  }
}

/** Whether there may be tokens; for a file that stays open for long it is worth looking closely. */
async function mayHaveTokens(
  host: Host,
  file: RandomAccessFile,
  { tokens, isServed = false }: ChangeOptions,
): Promise<OwnChangesOptions | undefined> {
  // Devices and memory have nothing by which tokens could notice a change.
  if (file.kind !== 'file') return undefined;
  const { defaultTokenStoreExists } = await import('../../offload/store/open.js');
  if (!tokens && !(await defaultTokenStoreExists())) return undefined;
  const { system } = host.process ?? processIdentity();
  const openStore = async (): Promise<OpenedStore | undefined> =>
    tokens ? { store: tokens, close: async () => undefined } : openOwnStore(host);
  if (!isServed) return { system, openStore };
  return (await hasAny(file, { system, openStore })) ? { system, openStore, timer: host.timer } : undefined;
}

/**
 * Opens a file to change it. The caller has its lock.
 * @throws what `FileSystem.open` throws
 */
export async function openToChange(
  host: Host,
  path: string,
  options: ChangeOptions = {},
): Promise<RandomAccessFile> {
  const file = await host.fileSystem.open(path, { writable: true, exclusive: true });
  const following = await mayHaveTokens(host, file, options).catch(() => undefined);
  return following ? new OwnChanges(file, following).file : file;
}

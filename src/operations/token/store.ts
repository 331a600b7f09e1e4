/**
 * Tokens as commands see them: a store, and a manager over it that takes up what others bound.
 *
 * Invariant: whatever opened a store sweeps it before it closes it, so that what was kept for tokens whose
 * time is over, or by processes that died, does not stay longer than until the next command.
 */
import { nodeDataKeeper } from '../../io/data-keeper.js';
import { processIdentity } from '../../io/process-identity.js';
import { PersistentData } from '../../offload/persistent-data.js';
import type { TokenOwner, TokenStore } from '../../offload/store/token-store.js';
import { TokenManager } from '../../offload/token-manager.js';
import { TokenSources } from '../../offload/token-sources.js';
import type { Host } from '../host.js';

const HOUR = 3_600_000;
/** Inactivity time-out of tokens that commands make: people are slower than programs. */
export const DEFAULT_TTL = HOUR;
export const LONGEST_TTL = 30 * 24 * HOUR;
/** Memory for the tokens that a command knows, where the store's limits say nothing of it. */
const MEMORY = 4 * 1024 * 1024;
/** How long a store goes on saying what became of a token. */
const REMEMBER = 24 * HOUR;

/** Where tokens are kept: a location as on the command line, or a store that is open. */
export type StoreChoice = string | TokenStore | undefined;

export interface OpenTokens {
  readonly store: TokenStore;
  readonly manager: TokenManager;
  /** Whether it is certain that a token's owner has ended. */
  hasEnded(owner: TokenOwner): boolean;
  /** Sweeps, and closes what was opened here. */
  close(): Promise<void>;
}

/** @throws TOKEN_STORE_FAILED, PERMISSION_DENIED, NO_SPACE */
export async function openTokens(host: Host, choice: StoreChoice): Promise<OpenTokens> {
  const given = typeof choice === 'object';
  const store = given ? choice : await openStore(host, choice);
  const sources = new TokenSources((path) => host.fileSystem.open(path));
  try {
    const process = host.process ?? processIdentity();
    const { memory = MEMORY } = await store.limits();
    const manager = new TokenManager({
      clock: host.clock,
      random: host.random,
      store,
      key: await store.key(),
      defaultTtl: DEFAULT_TTL,
      maxTtl: LONGEST_TTL,
      sources,
      persistent: new PersistentData(store, nodeDataKeeper),
      process,
      maxMemory: memory,
    });
    return {
      store,
      manager,
      hasEnded: (owner) => process.hasEnded(owner),
      async close() {
        try {
          await manager.closeFile().catch(() => undefined);
          await manager.giveBackUses();
          // Sweeping is a favour to others: what was done does not depend on it.
          await manager.reap(REMEMBER).catch(() => undefined);
        } finally {
          await sources.close();
          if (!given) await store.close();
        }
      },
    };
  } catch (error) {
    if (!given) await store.close();
    throw error;
  }
}

async function openStore({ random }: Host, location: string | undefined): Promise<TokenStore> {
  const { openTokenStore } = await import('../../offload/store/open.js');
  return openTokenStore(location, { random });
}

/** Runs work with an open store. */
export async function withTokens<T>(
  host: Host,
  choice: StoreChoice,
  work: (tokens: OpenTokens) => Promise<T>,
): Promise<T> {
  const tokens = await openTokens(host, choice);
  try {
    return await work(tokens);
  } finally {
    await tokens.close();
  }
}

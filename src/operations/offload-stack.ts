/**
 * The stack of providers of this machine, for those who use token sets themselves.
 *
 * All members take the tokens of one manager, under the name `local`; who adds providers of his own, or
 * another manager, makes a stack of these members and his.
 */
import { MiB } from '../base/bytes.js';
import { BufferPool } from '../offload/buffer-pool.js';
import { FailedPairs } from '../offload/failed-pairs.js';
import { LatencyMemory } from '../offload/latency.js';
import { standardProviders } from '../offload/provider-set.js';
import { ProviderStack, type StackMember, type StackMemory } from '../offload/stack/provider-stack.js';
import type { TokenManager } from '../offload/token-manager.js';
import type { Host } from './host.js';

const LOCAL = 'local';
const BUFFER_SIZE = MiB;
const BUFFER_COUNT = 4;

/**
 * Sharing extents, copying in the kernel, reading and writing: cheapest first.
 * @param name of the manager's tokens, where a stack has those of several; then it is part of the ids as well
 */
export function localMembers(manager: TokenManager, name = LOCAL): StackMember[] {
  const pool = new BufferPool(BUFFER_SIZE, BUFFER_COUNT);
  return standardProviders(manager, pool)
    .filter(({ id }) => id !== 'zero')
    .map((provider) => ({
      id: name === LOCAL ? provider.id : `${name}-${provider.id}`,
      provider,
      tokens: name,
    }));
}

/** What providers of this process were found to be able to, and how quick they are. */
export function stackMemory({ failedPairs, latency, timer }: Host): StackMemory {
  return { failed: failedPairs ?? new FailedPairs(timer), latency: latency ?? new LatencyMemory(timer) };
}

/** `vhdkit`'s own providers as a stack. The manager's tokens are what its sets consist of. */
export function localStack(host: Host, manager: TokenManager): ProviderStack {
  return new ProviderStack(localMembers(manager), stackMemory(host));
}

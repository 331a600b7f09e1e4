/**
 * Stacks of providers in memory: what tests of requestors share.
 */
import { systemRandom } from '../../src/base/random.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import type { FileFingerprint } from '../../src/io/random-access-file.js';
import { FailedPairs } from '../../src/offload/failed-pairs.js';
import { LatencyMemory } from '../../src/offload/latency.js';
import type { OffloadProvider, OffloadWriteResult } from '../../src/offload/offload-provider.js';
import { ProviderStack, type StackMember } from '../../src/offload/stack/provider-stack.js';
import { TokenManager } from '../../src/offload/token-manager.js';

/** Time that moves only when it is told to. */
export class HandClock {
  time = 0;
  now(): number {
    return this.time;
  }
}

export function newManager(clock = new HandClock()): TokenManager {
  return new TokenManager({ clock, random: systemRandom });
}

export function newStack(members: readonly StackMember[], clock = new HandClock()): ProviderStack {
  return new ProviderStack(members, { failed: new FailedPairs(clock), latency: new LatencyMemory(clock) });
}

/** Bytes that tell where they are. */
export function pattern(size: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) bytes[at] = 1 + ((at * 7 + (at >> 8) * 13 + seed * 31) % 251);
  return bytes;
}

export function memoryFile(size: number, seed = 1): MemoryFile {
  return new MemoryFile(pattern(size, seed), `memory-${seed}`);
}

/** The provider, but its answers to writes go through `change`. */
export function changed(
  provider: OffloadProvider,
  change: (work: () => Promise<OffloadWriteResult>, length: number) => Promise<OffloadWriteResult>,
): OffloadProvider {
  return {
    ...provider,
    offloadWrite: (request) => change(() => provider.offloadWrite(request), request.length),
  };
}

/** Does at most so many bytes of a request. */
export function shortened(provider: OffloadProvider, most: number): OffloadProvider {
  return {
    ...provider,
    offloadWrite: (request) => provider.offloadWrite({ ...request, length: Math.min(request.length, most) }),
  };
}

let inodes = 0n;

/** A file in memory that says which device it is on. */
export class DeviceFile extends MemoryFile {
  readonly #print: FileFingerprint;

  constructor(content: Uint8Array, device: number, path = 'on device') {
    super(content, path);
    inodes += 1n;
    this.#print = { device: BigInt(device), inode: inodes, size: 0n, mtime: 0n, ctime: 0n };
  }

  override fingerprint(): FileFingerprint {
    return this.#print;
  }
}

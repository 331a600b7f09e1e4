/**
 * The C library, loaded through koffi the first time somebody asks for it.
 *
 * Invariants: nothing is loaded when this module is imported; loading is synchronous, happens once, and
 * its failure is remembered with the reason. At most MAX_IN_FLIGHT asynchronous calls run at a time:
 * beyond the resident pools koffi maps and unmaps a stack per call, and beyond 256 calls it throws.
 *
 * Deliberately Linux on little-endian 64-bit machines only: there off_t has 64 bits, ioctl numbers are the
 * generic ones, and a variadic `ioctl` takes its argument like a fixed one (a variadic declaration would
 * have no asynchronous form). Everything else works without native calls.
 */
import { createRequire } from 'node:module';

const MAX_IN_FLIGHT = 32;
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64'];

type Argument = number | bigint | Uint8Array;

interface KoffiFunction {
  (...values: Argument[]): number | bigint;
  async(...values: unknown[]): void;
}

interface Koffi {
  config(options: { resident_async_pools: number }): unknown;
  load(path: string | null): { func(definition: string): KoffiFunction };
  errno(): number;
  address(value: Uint8Array): bigint;
}

/** One C function in its two forms. Both answer with the result, or −errno when the result is −1. */
export interface SystemCall {
  /** Blocks the caller: right for calls that take less than about 30 µs. */
  now(...values: Argument[]): number;
  /** Runs on a thread of libuv's pool. Buffers are used in place and kept alive until the call returns. */
  later(...values: Argument[]): Promise<number>;
}

export interface Library {
  call(definition: string): SystemCall;
  /** Where a buffer's bytes are. They stay there as long as the buffer lives. */
  address(buffer: Uint8Array): bigint;
}

const waiting: (() => void)[] = [];
let inFlight = 0;

async function enter(): Promise<void> {
  if (inFlight < MAX_IN_FLIGHT) {
    inFlight += 1;
    return;
  }
  // The slot of the call that ends is handed over, so inFlight does not change here.
  await new Promise<void>((resolve) => waiting.push(resolve));
}

function leave(): void {
  const next = waiting.shift();
  if (next) next();
  else inFlight -= 1;
}

function bind(koffi: Koffi, native: KoffiFunction): SystemCall {
  // errno is only ours until the next call: it is read at once, and in callbacks before anything else.
  // A 64-bit result beyond 2^53 arrives as a BigInt.
  const settle = (result: number | bigint): number =>
    Number(result) === -1 ? -koffi.errno() : Number(result);
  return {
    now: (...values) => settle(native(...values)),
    later: async (...values) => {
      await enter();
      try {
        return await new Promise<number>((resolve, reject) => {
          native.async(...values, (error: unknown, result: number | bigint) => {
            if (error) reject(error);
            else resolve(settle(result));
          });
        });
      } finally {
        leave();
      }
    },
  };
}

function whyNot(): string | undefined {
  if (process.env.VHDKIT_NO_NATIVE === '1') return 'VHDKIT_NO_NATIVE=1 is set';
  if (process.platform !== 'linux')
    return `system calls are only bound on Linux, this is ${process.platform}`;
  if (!ARCHITECTURES.includes(process.arch)) return `system calls are not bound on ${process.arch}`;
  return undefined;
}

/** Refused once anything was called, as by a second copy of this library in the process: that one has set it. */
function configure(koffi: Koffi): void {
  try {
    koffi.config({ resident_async_pools: MAX_IN_FLIGHT });
  } catch {
    // Calls beyond the pools are slower, and work.
  }
}

type Loaded = { calls: Library; reason?: undefined } | { calls?: undefined; reason: string };

function load(): Loaded {
  const reason = whyNot();
  if (reason !== undefined) return { reason };
  try {
    const koffi = createRequire(import.meta.url)('koffi') as Koffi;
    configure(koffi);
    // The process itself: its C library is already there, under whatever name the system gives it.
    const library = koffi.load(null);
    return {
      calls: {
        call: (definition) => bind(koffi, library.func(definition)),
        address: (buffer) => BigInt(koffi.address(buffer)),
      },
    };
  } catch (error) {
    const text = error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
    return { reason: `the optional package koffi can't be used: ${text}` };
  }
}

let loaded: Loaded | undefined;

export function library(): Library | undefined {
  loaded ??= load();
  return loaded.calls;
}

/** Why there are no native calls; undefined when there are. */
export function libraryUnavailableReason(): string | undefined {
  loaded ??= load();
  return loaded.reason;
}

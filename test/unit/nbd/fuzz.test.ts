/**
 * Broken messages without end: the server survives them, holds a limited amount of memory meanwhile, and serves others. A
 * failure is repeated with the seed that it names.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemTimer } from '../../../src/base/timer.js';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { openNbdExport } from '../../../src/nbd/client/client.js';
import { MiB, option, RawClient, request, type Served, serve, u32 } from '../../support/nbd-kit.js';

const SEED = Number(process.env.VHDKIT_FUZZ_SEED ?? 20261121);
const ROUNDS = Number(process.env.VHDKIT_FUZZ_ROUNDS ?? 300);

/** mulberry32: small, and the same everywhere. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer from 0 to `sides` - 1. */
  roll(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let bits = this.#state;
    bits = Math.imul(bits ^ (bits >>> 15), bits | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) % sides;
  }

  pick<T>(first: T, ...others: T[]): T {
    return [first, ...others][this.roll(others.length + 1)] ?? first;
  }

  bytes(count: number): Buffer {
    return Buffer.from(Array.from({ length: count }, () => this.roll(256)));
  }
}

const NUMBERS = [0, 1, 2, 3, 4, 8, 28, 511, 4096, 65535, 65536, 1 << 20, 0x7fffffff, 0xffffffff];

function number(dice: Dice): number {
  return dice.roll(3) === 0 ? dice.roll(300_000) : dice.pick(...(NUMBERS as [number, ...number[]]));
}

/** An option: right, or nearly. */
function someOption(dice: Dice): Buffer {
  const name: Buffer = Buffer.from(dice.pick('disk', '', 'nothing', 'disk\0', 'x'.repeat(5000)));
  const named = Buffer.concat([u32(dice.roll(4) === 0 ? number(dice) : name.length), name]);
  const data = dice.pick<Buffer>(
    Buffer.alloc(0),
    named,
    Buffer.concat([named, Buffer.from([0, dice.roll(4), 0, 3])]),
    Buffer.concat([named, u32(dice.roll(3), 15), Buffer.from('base:allocation')]),
    Buffer.concat([named, u32(number(dice), number(dice))]),
    dice.bytes(dice.roll(200)),
    name,
  );
  const whole = option(dice.roll(14), data);
  if (dice.roll(8) === 0) whole.writeUInt32BE(number(dice), 12);
  return whole;
}

/** A request: right, or nearly; mostly with the payload it promises. */
function someRequest(dice: Dice): Buffer {
  const type = dice.roll(dice.pick(8, 8, 8, 65536));
  const offset = dice.pick(0, dice.roll(8 * MiB), 8 * MiB - 1, Number.MAX_SAFE_INTEGER);
  const length = dice.pick(dice.roll(10_000), dice.roll(10_000), number(dice));
  const flags = dice.pick(0, 0, 1, dice.roll(64), dice.roll(65536));
  const header = request(type, { flags, cookie: dice.roll(1000), offset, length });
  if (type !== 1) return header;
  return Buffer.concat([header, Buffer.alloc(Math.min(length, 1 * MiB), 0x5a)]);
}

/** Everything a client says in its life. */
function life(dice: Dice): Buffer {
  const parts = [u32(dice.roll(6) === 0 ? number(dice) : 3)];
  for (let count = dice.roll(6); count > 0; count--) parts.push(someOption(dice));
  if (dice.roll(3) > 0) {
    if (dice.roll(2) === 0) parts.push(option(8));
    parts.push(option(7, Buffer.concat([u32(4), Buffer.from('disk'), Buffer.from([0, 0])])));
    for (let count = dice.roll(30); count > 0; count--) parts.push(someRequest(dice));
  }
  const bytes = Buffer.concat(parts);
  for (let count = dice.pick(0, 0, 1, 5); count > 0 && bytes.length > 0; count--)
    bytes[dice.roll(bytes.length)] = dice.roll(256);
  return dice.roll(4) === 0 ? bytes.subarray(0, dice.roll(bytes.length + 1)) : bytes;
}

async function live(socket: string, dice: Dice): Promise<void> {
  const client = await RawClient.connect(socket);
  const bytes = life(dice);
  if (dice.roll(4) === 0) client.socket.pause();
  for (let at = 0; at < bytes.length && !client.isClosed; ) {
    const step = dice.pick(bytes.length, bytes.length, 1 + dice.roll(60_000), 1 + dice.roll(40));
    client.send(bytes.subarray(at, at + step));
    at += step;
    if (at < bytes.length && step > 100) await new Promise((resolve) => setImmediate(resolve));
  }
  if (dice.roll(2) === 0) client.socket.end();
  await systemTimer.sleep(dice.roll(20));
  client.socket.destroy();
}

describe('fuzz', () => {
  let served: Served;
  const memory = new MemoryDevice(8 * MiB);
  const problems: unknown[] = [];
  const note = (error: unknown): void => {
    problems.push(error);
  };
  beforeAll(async () => {
    process.on('uncaughtException', note);
    process.on('unhandledRejection', note);
    const limits = { connections: 16, sharedBytes: 16 * MiB, connectionBytes: 8 * MiB };
    served = await serve({ device: memory, limits });
  });
  afterAll(async () => {
    await served.close();
    process.removeListener('uncaughtException', note);
    process.removeListener('unhandledRejection', note);
  });

  it(`${ROUNDS} lives of broken clients (seed ${SEED})`, async () => {
    const dice = new Dice(SEED);
    const buffersBefore = process.memoryUsage().arrayBuffers;
    let most = 0;
    for (let round = 0; round < ROUNDS; round += 4) {
      await Promise.all([1, 2, 3, 4].map(() => live(served.socket, new Dice(dice.roll(2 ** 32)))));
      expect(problems, `after round ${round}`).toEqual([]);
      expect(served.server.sharedBytes).toBeLessThanOrEqual(16 * MiB);
      most = Math.max(most, process.memoryUsage().arrayBuffers - buffersBefore);
    }
    // 16 connections at 1 MiB, what they share, recycled buffers, and garbage of both ends not yet collected.
    expect(most).toBeLessThan(256 * MiB);
    const device = await openNbdExport({ address: served.address, export: 'disk', timer: systemTimer });
    await device.write(Buffer.from('still here'), 5);
    const back = Buffer.alloc(10);
    await device.read(back, 5);
    expect(back.toString()).toBe('still here');
    await device.close();
    for (let tries = 0; tries < 200 && served.server.connections().length > 0; tries++)
      await systemTimer.sleep(10);
    expect(served.server.connections()).toEqual([]);
    expect(served.server.sharedBytes).toBe(0);
    expect(new Set(served.events.map((event) => event.type))).toContain('closed');
  });
});

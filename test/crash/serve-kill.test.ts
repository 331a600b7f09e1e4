/**
 * Servers that are killed under load (kill -9): every write that a client had flushed is in the image, every sector
 * shows something that was written to it, and the image is sound. Twenty-five times, each at another moment and under
 * another load; a hundred times with VHDKIT_SOAK.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemTimer } from '../../src/base/timer.js';
import type { BlockDevice } from '../../src/block/block-device.js';
import { openNbdExport } from '../../src/nbd/client/client.js';
import { makeChildProgram } from '../support/child-program.js';
import { assertSound, contentOf, type ImageShape, makeImage } from '../support/device-kit.js';
import { tool } from '../support/requires.js';
import { must } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const MiB = 1 << 20;
const SECTOR = 512;
const SIZE = 8 * MiB;
const SECTORS = SIZE / SECTOR;
const ROUNDS = process.env.VHDKIT_SOAK ? 20 : 5;
/** Requests under way at a time. */
const DEPTH = 8;
let child: string;

beforeAll(async () => {
  child = await makeChildProgram('serve-child');
});

function start(image: string, socket: string): Promise<ChildProcess> {
  const options = { images: [{ path: image, name: 'disk' }], listen: [{ path: socket }], flushAfter: 40 };
  const server = spawn(process.execPath, [child, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    server.stdout?.once('data', () => resolve(server));
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
}

/** What each sector may show: one thing, or one of several as long as nothing was flushed. */
class Expected {
  /** By sector: ids of requests since the last flush that is certain, and what was there then. */
  readonly may: Set<number>[];

  constructor(content: Buffer) {
    this.may = Array.from({ length: SECTORS }, (_, sector) => new Set([idOf(content, sector)]));
  }

  /** A flush was answered: of these sectors, what was answered before it is there. */
  settle(answered: ReadonlyMap<number, number>): void {
    for (const [sector, id] of answered) this.may[sector] = new Set([id]);
  }

  judge(content: Buffer): void {
    for (let sector = 0; sector < SECTORS; sector += 1) {
      const id = idOf(content, sector);
      if (this.may[sector]?.has(id)) continue;
      throw new Error(`sector ${sector} shows ${id}, not one of ${[...(this.may[sector] ?? [])].join(', ')}`);
    }
  }
}

/** What a sector holds, as a number. */
function idOf(content: Buffer, sector: number): number {
  return content.readUInt32LE(sector * SECTOR);
}

function fill(id: number, sectors: number): Buffer {
  const bytes = Buffer.alloc(sectors * SECTOR);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(id, at);
  return bytes;
}

let lastId = 0;

/**
 * Writes, zeroes and flushes until the server is gone. Requests under way at the same time never overlap, so the order
 * of what was answered is the order of what is there.
 */
async function load(
  device: BlockDevice,
  expected: Expected,
  seed: number,
  onFlush: (flushes: number) => void,
): Promise<number> {
  let state = seed;
  const next = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
  let flushes = 0;
  for (;;) {
    const answered = new Map<number, number>();
    const places = new Set<number>();
    const work = Array.from({ length: DEPTH }, async () => {
      const count = next(10) === 0 ? 1 + next(1500) : 1 + next(16);
      const at = next(SECTORS - count);
      const sectors = Array.from({ length: count }, (_, index) => at + index);
      if (sectors.some((sector) => places.has(sector))) return;
      for (const sector of sectors) places.add(sector);
      lastId += 1;
      const id = next(8) === 0 ? 0 : lastId;
      for (const sector of sectors) expected.may[sector]?.add(id);
      if (id === 0) await device.zero(at * SECTOR, count * SECTOR);
      else await device.write(fill(id, count), at * SECTOR);
      for (const sector of sectors) answered.set(sector, id);
    });
    try {
      await Promise.all(work);
      await device.flush();
    } catch {
      await Promise.allSettled(work);
      return flushes;
    }
    flushes += 1;
    expected.settle(answered);
    onFlush(flushes);
  }
}

const shapes: (ImageShape & { name: string })[] = [
  { name: 'raw', format: 'raw', type: 'fixed', size: SIZE },
  { name: 'dynamic VHD', format: 'vhd', type: 'dynamic', size: SIZE, blockSize: MiB / 2 },
  { name: 'differencing VHD', format: 'vhd', type: 'differencing', size: SIZE },
  { name: 'dynamic VHDX', format: 'vhdx', type: 'dynamic', size: SIZE, blockSize: MiB },
  { name: 'differencing VHDX', format: 'vhdx', type: 'differencing', size: SIZE, blockSize: MiB },
];

describe.each(shapes)('a server of a $name image that is killed', ({ name, ...shape }) => {
  it(`has every flushed write, at ${ROUNDS} moments`, { timeout: 120_000 }, async () => {
    const folder = testFolder('serve-kill');
    const { path: image } = await makeImage(folder, shape);
    const socket = path.join(folder, 's');
    const first = ROUNDS * shapes.findIndex((each) => each.name === name);
    let flushes = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const expected = new Expected(await contentOf(image));
      const server = await start(image, socket);
      const over = new Promise((resolve) => server.once('exit', resolve));
      const device = await openNbdExport({ address: { path: socket }, export: 'disk', timer: systemTimer });
      const kill = (): unknown => setTimeout(() => server.kill('SIGKILL'), ((first + round) * 7) % 23);
      const enough = 1 + (round % 3);
      flushes += await load(device, expected, 77 * (first + round) + 1, (done) => done === enough && kill());
      await over;
      expected.judge(await contentOf(image));
      await assertSound(image, true);
      // Once is enough for the other program's opinion; it replays the log, so it gets a copy.
      if (round === 0 && shape.format === 'vhdx' && shape.type === 'dynamic' && tool('qemu-img'))
        await must('qemu-img', ['check', '-r', 'all', await copyOf(image)]);
    }
    expect(flushes).toBeGreaterThanOrEqual(ROUNDS);
  });
});

async function copyOf(image: string): Promise<string> {
  const copy = `${image}.copy.vhdx`;
  await fs.copyFile(image, copy);
  return copy;
}

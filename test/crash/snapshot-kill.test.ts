/**
 * A process that writes to an image and makes, deletes and restores snapshots is killed (kill -9), again and again:
 * every snapshot shows its moment, and every write that had ended is there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemHost } from '../../src/operations/host.js';
import { openSet } from '../../src/operations/snapshot/open-set.js';
import { makeChildProgram } from '../support/child-program.js';
import { readAll } from '../support/snapshot-kit.js';
import { testFolder } from '../support/tmp.js';

const SECTOR = 512;
const SIZE = 2 << 20;
const SECTORS = SIZE / SECTOR;
const ROUNDS = process.env.VHDKIT_SOAK ? 50 : 10;
let child: string;

beforeAll(async () => {
  child = await makeChildProgram('snapshot-child');
});

/** By sector: what it may show. */
type May = Set<number>[];

function idsOf(content: Uint8Array): number[] {
  const words = new Uint32Array(content.buffer, content.byteOffset, content.length / 4);
  return Array.from({ length: SECTORS }, (_, sector) => {
    const part = words.subarray((sector * SECTOR) / 4, ((sector + 1) * SECTOR) / 4);
    // A sector is written as a whole.
    expect(part.every((word) => word === part[0])).toBe(true);
    return part[0] ?? 0;
  });
}

function exactly(ids: readonly number[]): May {
  return ids.map((id) => new Set([id]));
}

function judge(what: string, content: Uint8Array, may: May): number[] {
  const ids = idsOf(content);
  for (const [sector, id] of ids.entries()) {
    if (may[sector]?.has(id)) continue;
    throw new Error(`${what}, sector ${sector}: shows ${id}, may show ${[...(may[sector] ?? [])]}`);
  }
  return ids;
}

class Model {
  live: May = exactly(new Array<number>(SECTORS).fill(0));
  snapshots = new Map<string, May>();
  /** Those that may be there or not. */
  loose = new Map<string, May>();
  readonly #under = new Map<number, { first: number; count: number }>();
  #making: May | undefined;

  #copy(may: May): May {
    return may.map((ids) => new Set(ids));
  }

  tell(line: string): void {
    const [what, name = '', first = '', count = ''] = line.split(' ');
    if (what === 'w') this.#begin(Number(name), Number(first), Number(count));
    else if (what === 'W') this.#end(Number(name));
    else if (what === 'c') {
      this.#making = this.#copy(this.live);
      this.loose.set(name, this.#making);
    } else if (what === 'C' || what === 'X') {
      const may = this.loose.get(name);
      this.loose.delete(name);
      if (what === 'C' && may) this.snapshots.set(name, may);
      this.#making = undefined;
    } else if (what === 'x') {
      this.loose.set(name, this.snapshots.get(name) as May);
      this.snapshots.delete(name);
    } else if (what === 'r') {
      for (const [sector, ids] of (this.snapshots.get(name) as May).entries())
        for (const id of ids) this.live[sector]?.add(id);
    } else if (what === 'R') {
      this.live = this.#copy(this.snapshots.get(name) as May);
    }
  }

  #begin(id: number, first: number, count: number): void {
    this.#under.set(id, { first, count });
    for (let sector = first; sector < first + count; sector += 1) {
      this.live[sector]?.add(id);
      this.#making?.[sector]?.add(id);
    }
  }

  #end(id: number): void {
    const { first, count } = this.#under.get(id) ?? { first: 0, count: 0 };
    this.#under.delete(id);
    for (let sector = first; sector < first + count; sector += 1) this.live[sector] = new Set([id]);
  }
}

async function runAndKill(image: string, seed: number, model: Model): Promise<number> {
  const worker: ChildProcess = spawn(process.execPath, [child, image, String(seed)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  await new Promise<void>((resolve, reject) => {
    let killing = false;
    worker.stdout?.on('data', (data: Buffer) => {
      text += data.toString();
      if (killing || !text.includes('ready')) return;
      killing = true;
      setTimeout(() => worker.kill('SIGKILL'), 20 + ((seed * 37) % 150));
    });
    // After its streams, so that all that it told is here.
    worker.once('close', (code) => (code === null ? resolve() : reject(new Error(`it ended with ${code}`))));
  });
  const lines = text.split('\n').slice(0, -1);
  for (const line of lines) model.tell(line);
  return lines.length;
}

describe('a process that changes snapshots under load', () => {
  it('is killed, and nothing is lost or wrong', async () => {
    const image = path.join(testFolder('snapshot-kill'), 'disk.img');
    await fs.writeFile(image, new Uint8Array(SIZE));
    const model = new Model();
    let steps = 0;
    let seen = 0;
    for (let round = 1; round <= ROUNDS; round += 1) {
      steps += await runAndKill(image, round, model);
      const { set, close, state } = await openSet(systemHost(), { path: image });
      expect(['not-closed', 'unchanged']).toContain(state);
      await set.finishRestore();
      const live = judge(`round ${round}: the disk`, await readAll(set.volume), model.live);
      const names = set.store.record.snapshots.map(({ name }) => name);
      const found = new Map<string, May>();
      for (const entry of set.store.record.snapshots) {
        const may = model.snapshots.get(entry.name) ?? model.loose.get(entry.name);
        expect(may, `a snapshot nobody made: ${entry.name}`).toBeDefined();
        if (entry.state === 'deleting') await set.delete(entry.name);
        else {
          const content = await readAll(set.view(entry.name));
          found.set(entry.name, exactly(judge(`round ${round}: ${entry.name}`, content, may as May)));
        }
      }
      expect(names).toEqual(expect.arrayContaining([...model.snapshots.keys()]));
      seen += found.size;
      Object.assign(model, { live: exactly(live), snapshots: found, loose: new Map() });
      await close();
    }
    expect(steps).toBeGreaterThan(ROUNDS * 10);
    expect(seen).toBeGreaterThan(ROUNDS);
  }, 280_000);
});

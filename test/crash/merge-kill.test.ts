/**
 * Merges killed at random moments (kill -9), on real files: the child shows its content, and merging again
 * finishes.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { hash } from '../../src/operations/hash.js';
import { systemHost } from '../../src/operations/host.js';
import { merge } from '../../src/operations/merge.js';
import { must, PROJECT_ROOT } from '../support/run.js';
import { testFolder } from '../support/tmp.js';
import { buildChainIn, type ChainShape } from '../unit/operations/merge/chains.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const ROUNDS = 4;
const MiB = 1024 * 1024;
const SECTORS = (96 * MiB) / 512;

/** A base with data, and two children that write over half of it. */
function shape(format: 'vhd' | 'vhdx'): ChainShape {
  const runs = (fill: number, from: number) =>
    Array.from({ length: 24 }, (_, index) => ({
      kind: 'write' as const,
      at: from + index / 25,
      sectors: Math.floor(SECTORS / 50),
      fill: fill + index,
    }));
  const links = [runs(1, 0), runs(100, 0.01), runs(200, 0.005)].map((steps) => ({ growth: 0, steps }));
  return { format, blockSize: 2 * MiB, baseType: 'dynamic', sectors: SECTORS, links };
}

/** Runs a merge and kills it some time after it began to work; true when it got to its end. */
function mergeAndKill(child: string, target: string, delay: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const args = ['merge', child, '--to', target, '--progress', 'json', '--provider', 'buffered'];
    const running = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let begun = false;
    running.stderr.on('data', () => {
      if (!begun) setTimeout(() => running.kill('SIGKILL'), delay);
      begun = true;
    });
    running.on('error', reject);
    running.on('close', (status) => resolve(status === 0));
  });
}

describe.each(['vhd', 'vhdx'] as const)('a merge of %s images that is killed', (format) => {
  it(`loses nothing at ${ROUNDS} moments`, { timeout: 120_000 }, async () => {
    const host = systemHost();
    const pristine = testFolder('kill');
    const { paths } = await buildChainIn(host, pristine, shape(format));
    const names = paths.map((each) => path.basename(each));
    const { sha256: wanted } = await hash(host, { path: paths[0] ?? '' });
    let interrupted = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const folder = testFolder('kill');
      for (const name of names) await must('cp', [path.join(pristine, name), folder]);
      const [child, target] = [path.join(folder, names[0] ?? ''), path.join(folder, names.at(-1) ?? '')];
      const complete = await mergeAndKill(child, target, round * 25);
      if (!complete) interrupted += 1;
      expect((await hash(host, { path: child })).sha256).toBe(wanted);
      await merge(host, { child, to: target, delete: true });
      expect((await hash(host, { path: target })).sha256).toBe(wanted);
      // Locks of the killed process are gone, too. What lay between is there if it was not merged any more.
      const left = (await fs.readdir(folder)).filter((name) => name.startsWith('.'));
      expect(left.filter((name) => !name.includes('lock'))).toEqual([]);
      await fs.rm(folder, { recursive: true });
    }
    // The test must have met what it is about.
    expect(interrupted).toBeGreaterThan(0);
  });
});

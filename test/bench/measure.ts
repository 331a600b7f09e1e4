/**
 * Measuring programs: wall time until they return, until the result is durable, and their peak memory.
 *
 * Invariant: contenders take turns within one round, so that a slow moment of the machine hits all of them;
 * what is reported is the median over the rounds.
 */
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describeFailure, must, PROJECT_ROOT, run } from '../support/run.js';
import { runFolder } from '../support/tmp.js';
import { findTool } from '../support/tools.js';

export interface Contender {
  name: string;
  command: string;
  args: readonly string[];
  /** What it writes: removed before, synchronised after, removed in the end. */
  output?: string;
}

export interface Measured {
  name: string;
  /** Milliseconds until the program returned. */
  wall: number;
  /** Milliseconds until its output was on stable storage. */
  durable: number;
  /** Peak resident bytes; undefined without time(1). */
  peak: number | undefined;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

export function vhdkitContender(name: string, args: readonly string[], output?: string): Contender {
  const all = [path.join(PROJECT_ROOT, 'bin/run.js'), ...args];
  return { name, command: process.execPath, args: all, ...(output === undefined ? {} : { output }) };
}

/** time(1) knows the peak memory of a child, which Node does not tell. */
function timed(contender: Contender, report: string): [string, string[]] {
  const time = findTool('time');
  if (time === undefined) return [contender.command, [...contender.args]];
  return [time, ['-f', '%M', '-o', report, contender.command, ...contender.args]];
}

function readPeak(report: string): number | undefined {
  try {
    const kib = Number(readFileSync(report, 'utf8').trim().split('\n').at(-1));
    return Number.isFinite(kib) ? kib * 1024 : undefined;
  } catch {
    return undefined;
  }
}

async function measureOnce(contender: Contender): Promise<Omit<Measured, 'name'>> {
  if (contender.output) rmSync(contender.output, { force: true });
  await must('sync', []);
  const report = path.join(runFolder(), 'time');
  rmSync(report, { force: true });
  const [command, args] = timed(contender, report);
  const started = performance.now();
  const result = await run(command, args, { timeout: 1_800_000 });
  const wall = performance.now() - started;
  if (result.status !== 0) throw new Error(describeFailure(command, args, result));
  if (contender.output) await must('sync', [contender.output], { timeout: 600_000 });
  return { wall, durable: performance.now() - started, peak: readPeak(report) };
}

/** Runs all contenders in turn, `rounds` times. */
export async function race(contenders: readonly Contender[], rounds: number): Promise<Measured[]> {
  const samples = contenders.map((): Omit<Measured, 'name'>[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, contender] of contenders.entries()) {
      samples[index]?.push(await measureOnce(contender));
      if (contender.output) rmSync(contender.output, { force: true });
    }
  }
  return contenders.map(({ name }, index) => {
    const own = samples[index] ?? [];
    const peaks = own.flatMap((sample) => (sample.peak === undefined ? [] : [sample.peak]));
    return {
      name,
      wall: median(own.map((sample) => sample.wall)),
      durable: median(own.map((sample) => sample.durable)),
      peak: peaks.length === 0 ? undefined : Math.max(...peaks),
    };
  });
}

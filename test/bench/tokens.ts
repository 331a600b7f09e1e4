/**
 * A hundred thousand live tokens in a store in a folder: how long binding and looking up take, and how much memory.
 *
 * Memory counts what the process itself has (RssAnon). What it maps, the program and the store's file, is memory
 * of the system, which takes it back when it needs it.
 */
import path from 'node:path';
import { must, PROJECT_ROOT } from '../support/run.js';
import { mebibytes, type Row, table } from './table.js';

const COUNT = 100_000;
/** Microseconds. */
const MOST_TIME = 50;
const MOST_MEMORY = 150 * 1024 * 1024;

interface Memory {
  anonymous: number;
  mapped: number;
}

interface Measured {
  bind: number;
  first: number;
  again: number;
  before: Memory;
  live: Memory;
}

function verdict(isWell: boolean, most: string): string {
  return isWell ? `<= ${most}` : `NOT <= ${most}`;
}

/** The measurements, in an empty folder. `say` prints. Needs dist/. */
export async function benchTokens(folder: string, say: (text: string) => void): Promise<void> {
  const child = path.join(PROJECT_ROOT, 'test/bench/tokens-child.mjs');
  const { stdout } = await must(process.execPath, [child, folder, String(COUNT)], { timeout: 600_000 });
  const { bind, first, again, before, live } = JSON.parse(stdout) as Measured;
  const time = (name: string, value: number): Row => [
    name,
    `${value.toFixed(0)} us`,
    verdict(value <= MOST_TIME, `${MOST_TIME} us`),
  ];
  const memory = (name: string, value: Memory, judged: boolean): Row => [
    name,
    `${mebibytes(value.anonymous)} + ${mebibytes(value.mapped)} mapped`,
    judged ? verdict(value.anonymous <= MOST_MEMORY, mebibytes(MOST_MEMORY)) : '',
  ];
  const rows = [
    time('bind, median', bind),
    time('first look-up elsewhere', first),
    time('look-up', again),
    memory('memory before', before, false),
    memory('memory with all of them live', live, true),
  ];
  say(`\n## ${COUNT} live tokens\n\n${table(['', 'measured', 'wanted'], rows)}`);
}

/**
 * Merging a child of some GiB in place, against `cp` of that child and vhd-lib's merge.
 *
 * What is compared is the time until everything is on stable storage: a merge ends only then, the others
 * get a sync. The sources are in memory for all of them.
 */
import { copyFileSync, openSync, readSync } from 'node:fs';
import path from 'node:path';
import { create } from '../../src/operations/create.js';
import { openForEditing } from '../../src/operations/editing.js';
import { systemHost } from '../../src/operations/host.js';
import { PROJECT_ROOT } from '../support/run.js';
import { type Contender, type Measured, race } from './measure.js';
import { mebibytes, milliseconds, type Row, ratio, table } from './table.js';

const MIB = 1024 * 1024;
const PIECE = 16 * MIB;
const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const VHD_LIB = path.join(PROJECT_ROOT, 'test/bench/merge-vhd-lib.mjs');

/** Largest ratios of our time to theirs that are wanted. */
const WANTED: Readonly<Record<string, number>> = { cp: 1.3, 'vhd-lib': 1 / 5 };

async function fill(image: string, bytes: number): Promise<void> {
  const random = openSync('/dev/urandom', 'r');
  const buffer = Buffer.alloc(PIECE);
  const editing = await openForEditing(systemHost(), image);
  for (let at = 0; at < bytes; at += PIECE) {
    readSync(random, buffer, 0, PIECE, null);
    const write = await editing.image.prepareWrite(at, PIECE);
    for (const { offset, length, file, fileOffset } of write.places) {
      await file.write(buffer.subarray(offset - at, offset - at + length), fileOffset);
    }
    await write.commit();
  }
  await editing.image.flush();
  await editing.close();
}

/** An empty parent and a child with so many bytes in whole blocks. */
async function makePair(folder: string, format: 'vhd' | 'vhdx', bytes: number): Promise<[string, string]> {
  const host = systemHost();
  const [parent, child] = [path.join(folder, `parent.${format}`), path.join(folder, `child.${format}`)];
  await create(host, { path: parent, size: bytes + 64 * MIB, format });
  await create(host, { path: child, format, type: 'differencing', parent });
  await fill(child, bytes);
  return [parent, child];
}

function report(title: string, results: readonly Measured[], say: (text: string) => void): void {
  const [own, ...others] = results;
  if (!own) return;
  const rows = results.map((result): Row => {
    const value = own.durable / result.durable;
    const most = WANTED[result.name];
    const verdict = most === undefined ? '' : value <= most ? `<= ${ratio(most)}` : `NOT <= ${ratio(most)}`;
    const facts = [result.name, milliseconds(result.durable), mebibytes(result.peak)];
    return [...facts, others.includes(result) ? ratio(value) : '', verdict];
  });
  say(`\n### ${title}\n\n${table(['contender', 'durable', 'peak', 'vhdkit / it', 'wanted'], rows)}`);
}

/** The measurements, in an empty folder. `say` prints. */
export async function benchMerge(
  name: string,
  folder: string,
  gib: number,
  rounds: number,
  say: (text: string) => void,
): Promise<void> {
  const merge = (child: string): string[] => [BIN, 'merge', child, '--quiet'];
  const cp = (child: string): Contender => {
    const output = path.join(folder, 'copy');
    return { name: 'cp', command: 'cp', args: ['--reflink=never', child, output], output };
  };

  const [parent, child] = await makePair(folder, 'vhd', gib * 1024 * MIB);
  const pristine = path.join(folder, 'pristine');
  copyFileSync(parent, pristine);
  // The parent of a few KiB is put back before each merge, within the time.
  const fresh = (label: string, args: string[]): Contender => ({
    name: label,
    command: 'sh',
    args: ['-c', 'cp "$0" "$1" && shift && exec "$@"', pristine, parent, process.execPath, ...args],
    output: parent,
  });
  const into = [fresh('vhdkit', merge(child)), cp(child), fresh('vhd-lib', [VHD_LIB, parent, child])];
  report(`${name}: ${gib} GiB merged into an empty parent, VHD`, await race(into, rounds), say);

  copyFileSync(pristine, parent);
  for (const format of ['vhd', 'vhdx'] as const) {
    const top = format === 'vhd' ? child : (await makePair(folder, format, gib * 1024 * MIB))[1];
    const own: Contender = { name: 'vhdkit', command: process.execPath, args: merge(top) };
    await race([own], 1);
    const title = `${name}: ${gib} GiB merged over the same of the parent, ${format.toUpperCase()}`;
    report(title, await race([own, cp(top)], rounds), say);
  }
}

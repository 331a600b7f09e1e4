/**
 * Benchmarks: `npm run bench -- [--gib 4] [--rounds 3] [--only xfs,btrfs,ext4,merge,compact,tokens,serve,snapshots,start-up,memory]`.
 *
 * Compares vhdkit with qemu-img and cp in the same run on the same machine and prints medians and ratios.
 * It never fails for being slow: absolute times belong to machines, and a ratio below what is wanted is
 * marked for a person to look at.
 *
 * Needs qemu-img; root for XFS and btrfs; time(1) (Debian package `time`) for peak memory. Writes about
 * three times `--gib` into the temporary folder.
 */

import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { fixture } from '../support/fixtures.js';
import { type FileSystemKind, mountNew, releaseAll } from '../support/mounts.js';
import { canMount, tool } from '../support/requires.js';
import { must, vhdkit } from '../support/run.js';
import { createRunFolder, makeTempFolder, removeFolder } from '../support/tmp.js';
import { benchCompact } from './compact.js';
import { type Contender, type Measured, race, vhdkitContender } from './measure.js';
import { benchMerge } from './merge.js';
import { benchServe } from './serve.js';
import { benchSnapshots } from './snapshot.js';
import { mebibytes, milliseconds, type Row, ratio, table } from './table.js';
import { benchTokens } from './tokens.js';

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
/** No conversion may need more memory than this, whatever the image's size. */
const PEAK_WANTED = 130_000_000;

const { values } = parseArgs({
  options: {
    gib: { type: 'string', default: process.env.VHDKIT_BENCH_GIB ?? '4' },
    rounds: { type: 'string', default: process.env.VHDKIT_BENCH_ROUNDS ?? '3' },
    only: { type: 'string', default: 'xfs,btrfs,ext4,merge,compact,tokens,serve,snapshots,start-up,memory' },
  },
});
const gib = Number(values.gib);
const rounds = Number(values.rounds);
const only = values.only.split(',');

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** A raw disk with random payload: runs of 15 MiB with holes of 1 MiB between them. */
function makeDisk(file: string, payload: number): void {
  const random = openSync('/dev/urandom', 'r');
  const output = openSync(file, 'w');
  const buffer = Buffer.alloc(15 * MIB);
  let at = 0;
  for (let done = 0; done < payload; done += buffer.length) {
    readSync(random, buffer, 0, buffer.length, null);
    writeSync(output, buffer, 0, buffer.length, at);
    at += 16 * MIB;
  }
  ftruncateSync(output, at + 16 * MIB);
  for (const descriptor of [random, output]) closeSync(descriptor);
}

interface Wanted {
  of: string;
  /** Largest ratio of vhdkit's time to the other's. */
  most: number;
}

function report(title: string, results: readonly Measured[], wanted: readonly Wanted[]): void {
  const [own, ...others] = results;
  if (own === undefined) return;
  const rows = results.map((result): Row => {
    const most = wanted.find((item) => item.of === result.name)?.most;
    const value = own.wall / result.wall;
    const verdict = most === undefined ? '' : value <= most ? `<= ${ratio(most)}` : `NOT <= ${ratio(most)}`;
    return [
      result.name,
      milliseconds(result.wall),
      milliseconds(result.durable),
      mebibytes(result.peak),
      others.includes(result) ? ratio(value) : '',
      others.includes(result) ? ratio(own.durable / result.durable) : '',
      verdict,
    ];
  });
  const header = ['contender', 'returns', 'durable', 'peak', 'vhdkit / it', 'durable ratio', 'wanted'];
  say(`\n### ${title}\n\n${table(header, rows)}`);
}

function qemu(source: string, from: string, to: string, output: string, options: string[] = []): Contender {
  const args = ['convert', '-f', from, '-O', to, ...options, source, output];
  return { name: 'qemu-img', command: 'qemu-img', args, output };
}

async function benchFolder(name: string, folder: string, shares: boolean): Promise<void> {
  const at = (file: string): string => path.join(folder, file);
  makeDisk(at('disk.raw'), gib * GIB);
  await must('qemu-img', ['convert', '-f', 'raw', '-O', 'vhdx', at('disk.raw'), at('disk.vhdx')], {
    timeout: 1_800_000,
  });
  const out = at('out');
  const most = shares ? 1 / 15 : 0.6;
  const cp: Contender = {
    name: 'cp',
    command: 'cp',
    args: ['--reflink=never', at('disk.raw'), out],
    output: out,
  };
  const own = (source: string, ...args: string[]): Contender =>
    vhdkitContender('vhdkit', ['convert', at(source), out, ...args], out);

  const toRaw = [own('disk.vhdx', '-O', 'raw'), qemu(at('disk.vhdx'), 'vhdx', 'raw', out), cp];
  const copies = shares ? [] : [{ of: 'cp', most: 1.25 }];
  report(`${name}: VHDX to raw, ${gib} GiB of payload`, await race(toRaw, rounds), [
    { of: 'qemu-img', most },
    ...copies,
  ]);
  const toVhdx = [own('disk.raw', '-O', 'vhdx'), qemu(at('disk.raw'), 'raw', 'vhdx', out)];
  report(`${name}: raw to VHDX`, await race(toVhdx, rounds), [{ of: 'qemu-img', most }]);
  const toVhd = [own('disk.raw', '-O', 'vhd'), qemu(at('disk.raw'), 'raw', 'vpc', out)];
  report(`${name}: raw to VHD`, await race(toVhd, rounds), [{ of: 'qemu-img', most }]);
}

async function benchMounted(kind: FileSystemKind): Promise<void> {
  if (!canMount(kind)) return say(`\n${kind}: can't be mounted here, left out`);
  // Two sources, one target at a time, and room for the file system itself.
  const mounted = mountNew(kind, Math.ceil(gib * 1024 * 3.5) + 1024);
  try {
    await benchFolder(kind, mounted.path, true);
  } finally {
    mounted.unmount();
  }
}

async function benchPlain(): Promise<void> {
  const folder = makeTempFolder('bench');
  try {
    await benchFolder('the temporary folder, without extent sharing', folder, false);
  } finally {
    removeFolder(folder);
  }
}

async function benchMerging(): Promise<void> {
  const folder = makeTempFolder('merge');
  try {
    await benchMerge('the temporary folder', folder, gib, rounds, say);
  } finally {
    removeFolder(folder);
  }
}

async function benchCompacting(): Promise<void> {
  const folder = makeTempFolder('compact');
  try {
    await benchCompact(folder, gib, rounds, say);
  } finally {
    removeFolder(folder);
  }
}

async function benchSnapshotting(): Promise<void> {
  const mounted = mountNew('xfs', 2048);
  try {
    const folders = { XFS: mounted.path, 'temporary folder': makeTempFolder('snapshots') };
    await benchSnapshots(folders, rounds, say);
  } finally {
    mounted.unmount();
  }
}

async function benchStartUp(): Promise<void> {
  const bare: Contender = { name: 'node -e 0', command: process.execPath, args: ['-e', '0'] };
  const info = vhdkitContender('vhdkit info', ['info', fixture('disk.vhdx')]);
  report('Start-up', await race([info, bare], Math.max(rounds, 9)), [{ of: 'node -e 0', most: 3 }]);
}

async function benchMemory(): Promise<void> {
  const folder = makeTempFolder('memory');
  const rows: Row[] = [];
  const measure = async (name: string, args: string[]): Promise<void> => {
    const output = path.join(folder, 'out');
    const [result] = await race(
      [vhdkitContender(name, ['convert', ...args, output, '-O', 'raw'], output)],
      1,
    );
    if (result === undefined) return;
    const verdict = result.peak !== undefined && result.peak > PEAK_WANTED ? 'NOT <= 130 MB' : '<= 130 MB';
    rows.push([
      name,
      milliseconds(result.wall),
      mebibytes(result.peak),
      result.peak === undefined ? '' : verdict,
    ]);
  };
  try {
    for (const size of ['1G', '64G', '2T']) {
      const image = path.join(folder, `empty-${size}.vhdx`);
      const created = await vhdkit(['create', image, size]);
      if (created.status !== 0) throw new Error(created.stderr);
      await measure(`an empty VHDX of ${size}`, [image]);
    }
    const disk = path.join(folder, 'disk.raw');
    for (const payload of [0.25, 1]) {
      makeDisk(disk, payload * GIB);
      await measure(`${payload} GiB of payload`, [disk]);
      await measure(`${payload} GiB of payload, buffered`, [disk, '--provider', 'buffered']);
    }
  } finally {
    removeFolder(folder);
  }
  say(`\n### Memory\n\n${table(['conversion', 'returns', 'peak', 'wanted'], rows)}`);
}

const folder = createRunFolder();
mkdirSync(folder, { recursive: true });
try {
  say(
    `node ${process.version}, ${os.cpus()[0]?.model ?? 'unknown processor'} x ${os.cpus().length}, ${rounds} rounds`,
  );
  const wanted = (name: string): boolean => only.includes(name);
  if (!tool('qemu-img')) say('qemu-img is missing: nothing to compare with');
  else {
    if (wanted('xfs')) await benchMounted('xfs');
    if (wanted('btrfs')) await benchMounted('btrfs');
    if (wanted('ext4')) await benchPlain();
    if (wanted('compact') && canMount('ext4')) await benchCompacting();
  }
  if (wanted('merge')) await benchMerging();
  if (wanted('tokens')) await benchTokens(makeTempFolder('tokens'), say);
  if (wanted('serve')) await benchServe(makeTempFolder('serve'), rounds, say);
  if (wanted('snapshots') && canMount('xfs')) await benchSnapshotting();
  if (wanted('start-up')) await benchStartUp();
  if (wanted('memory')) await benchMemory();
} finally {
  for (const problem of releaseAll(folder)) say(problem);
  removeFolder(folder);
}

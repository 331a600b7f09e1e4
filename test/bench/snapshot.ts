/**
 * What snapshots cost a disk that is served, with one client: fio's nbd engine.
 *
 * - A write after the first touch of its chunk, on a disk with a snapshot, on one without, and on one without whose
 *   extents lie and are shared as those of the first (it had a snapshot; what that kept still exists): so what keeping a
 *   snapshot costs is told apart from what the file system takes for shared extents. All are served by one process and
 *   take turns; what is reported is the median over the rounds, of costs that of each round. The processor's time that
 *   the server takes for a write tells more than the rate on a machine with other work.
 * - The first write to each chunk: its time, and the bytes that pass through the server for it, as the kernel counts
 *   them (`rchar` and `wchar` of `/proc/PID/io`): where extents are shared, and where the server reads and writes. What
 *   `copy_file_range` copies is counted by the kernel too, although it never enters the process.
 *
 * Each 4 KiB are counted twice, from the socket and to the disk: the rows without a snapshot show that.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { must, PROJECT_ROOT } from '../support/run.js';
import { median } from './measure.js';
import { type Row, table } from './table.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const KIB = 1024;
const MIB = 1024 * KIB;
const SIZE = 256 * MIB;
/** Of a measurement of what goes on for long. */
const SECONDS = 2;
const MOST = 1.1;
const MIN_ROUNDS = 5;

/** `alike`: without a snapshot, its extents as those of `kept`. */
const DISKS = ['plain', 'kept', 'alike'] as const;
type Disk = (typeof DISKS)[number];

interface Site {
  server: ChildProcess;
  socket: string;
  control: string;
}

async function start(folder: string, env: Record<string, string> = {}): Promise<Site> {
  const socket = path.join(folder, 's');
  const control = path.join(folder, 'c');
  for (const each of [socket, control]) rmSync(each, { force: true });
  const images = DISKS.map((name) => path.join(folder, name));
  const args = [BIN, 'serve', ...images, '--listen', `unix:${socket}`, '--control', control, '--quiet'];
  const server = spawn(process.execPath, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...env },
  });
  for (let tries = 0; !existsSync(control); tries += 1) {
    if (tries > 400) throw new Error('vhdkit serve does not listen');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { server, socket, control };
}

async function stop({ server }: Site): Promise<void> {
  const ended = new Promise((resolve) => server.once('close', resolve));
  server.kill('SIGTERM');
  await ended;
}

interface Written {
  perSecond: number;
  /** Of one request, in microseconds. */
  latency: number;
  count: number;
  /** Processor time of the server for each, in microseconds. */
  cpu: number;
}

/** Processor time that a process has taken, in microseconds. */
function cpuTime({ server }: Site): number {
  const fields = readFileSync(`/proc/${server.pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10_000;
}

async function fio(site: Site, name: Disk, ...args: string[]): Promise<Written> {
  const { socket } = site;
  const output = `${socket}.json`;
  const target = ['--name=t', '--ioengine=nbd', `--uri=nbd+unix:///${name}?socket=${socket}`, '--bs=4k'];
  const report = ['--iodepth=16', '--output-format=json', `--output=${output}`];
  const before = cpuTime(site);
  await must('fio', [...target, `--size=${SIZE}`, ...args, ...report], { timeout: 120_000 });
  const cpu = cpuTime(site) - before;
  const text = readFileSync(output, 'utf8');
  const { write } = JSON.parse(text.slice(text.indexOf('{'))).jobs[0];
  return {
    perSecond: write.iops,
    latency: write.lat_ns.mean / 1000,
    count: write.total_ios,
    cpu: cpu / write.total_ios,
  };
}

/** Writes once to each chunk. */
function touch(site: Site, name: Disk, chunk: number): Promise<Written> {
  return fio(site, name, `--rw=write:${chunk - 4 * KIB}`, `--number_ios=${SIZE / chunk}`);
}

async function snapshot(
  folder: string,
  { control }: Site,
  verb: 'create' | 'delete',
  disk: Disk,
  ...args: string[]
): Promise<void> {
  const image = path.join(folder, disk);
  await must(process.execPath, [BIN, 'snapshot', verb, image, 'one', ...args, '--control', control]);
}

/** Deletes a snapshot and has what was kept for it stay, with its extents. */
async function forget(folder: string, site: Site, disk: Disk): Promise<void> {
  const devices = path.join(folder, `${disk}.vhdkit-snapshots`);
  for (const name of readdirSync(devices).filter((each) => each.endsWith('.sparse')))
    await must('cp', ['--reflink=auto', path.join(devices, name), path.join(folder, `${disk}.device`)]);
  await snapshot(folder, site, 'delete', disk);
}

/** Bytes that the server read and wrote by system calls. */
function passed({ server }: Site): number {
  const text = readFileSync(`/proc/${server.pid}/io`, 'utf8');
  const count = (name: string): number => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1]);
  return count('rchar') + count('wchar');
}

async function makeDisks(folder: string): Promise<void> {
  for (const name of DISKS) {
    const output = `of=${path.join(folder, name)}`;
    await must('dd', ['if=/dev/urandom', output, 'bs=1M', `count=${SIZE / MIB}`, 'status=none']);
  }
  await must('sync', []);
}

/** The disks in turns; a row of rates and processor time, with what is wanted of the rate. */
async function compare(site: Site, rounds: number): Promise<string[]> {
  const results: Record<Disk, Written[]> = { plain: [], kept: [], alike: [] };
  const args = ['--rw=randwrite', '--norandommap', '--time_based', `--runtime=${SECONDS}`];
  for (let round = 0; round < Math.max(rounds, MIN_ROUNDS); round += 1) {
    const order = DISKS.map((_, index) => DISKS[(index + round) % DISKS.length] ?? 'plain');
    for (const name of order) results[name].push(await fio(site, name, ...args));
  }
  const rate = (name: Disk): string => median(results[name].map(({ perSecond }) => perSecond)).toFixed(0);
  const cpu = (name: Disk): string => median(results[name].map((result) => result.cpu)).toFixed(1);
  const cost = (than: Disk, of: Disk): number =>
    median(results[than].map(({ perSecond }, round) => perSecond / (results[of][round]?.perSecond ?? 0)));
  return [
    ...DISKS.map(rate),
    ...[cost('plain', 'kept'), cost('plain', 'alike'), cost('alike', 'kept')].map((each) => each.toFixed(3)),
    ...DISKS.map(cpu),
    cost('plain', 'kept') <= MOST ? `<= ${MOST}` : `NOT <= ${MOST}`,
  ];
}

async function benchLater(title: string, folder: string, chunk: number, rounds: number): Promise<Row[]> {
  await makeDisks(folder);
  const site = await start(folder);
  const rows: Row[] = [];
  const measure = async (state: string): Promise<void> => {
    rows.push([`${title}, chunks of ${chunk / KIB} KiB, ${state}`, ...(await compare(site, rounds))]);
  };
  try {
    // All have been written to all over, or the file system would make the difference.
    for (const name of DISKS) await fio(site, name, '--rw=randwrite');
    for (const name of ['kept', 'alike'] as const) {
      await snapshot(folder, site, 'create', name, '--chunk-size', String(chunk));
      await touch(site, name, chunk);
    }
    await forget(folder, site, 'alike');
    await measure('each touched once');
    for (const name of DISKS) await fio(site, name, '--rw=randwrite');
    await measure('all overwritten');
  } finally {
    await stop(site);
    for (const name of ['kept', 'alike']) {
      rmSync(path.join(folder, `${name}.vhdkit-snapshots`), { recursive: true, force: true });
      rmSync(path.join(folder, `${name}.device`), { force: true });
    }
  }
  return rows;
}

async function benchFirst(title: string, folder: string, env: Record<string, string>): Promise<Row[]> {
  await makeDisks(folder);
  const site = await start(folder, env);
  const rows: Row[] = [];
  const measure = async (state: string, name: Disk, chunk: number): Promise<void> => {
    const before = passed(site);
    const { count, latency, perSecond } = await touch(site, name, chunk);
    const bytes = (passed(site) - before) / count;
    const cells = [perSecond.toFixed(0), (latency / 1000).toFixed(2), (bytes / KIB).toFixed(1)];
    rows.push([`${title}, ${state}`, ...cells]);
  };
  try {
    for (const chunk of [64 * KIB, MIB]) {
      const chunks = `chunks of ${chunk / KIB} KiB`;
      await measure(`no snapshot, every ${chunk / KIB} KiB`, 'plain', chunk);
      await snapshot(folder, site, 'create', 'kept', '--chunk-size', String(chunk));
      await measure(`first touch, ${chunks}`, 'kept', chunk);
      await measure(`again, ${chunks}`, 'kept', chunk);
      await snapshot(folder, site, 'delete', 'kept');
    }
  } finally {
    await stop(site);
  }
  return rows;
}

/** The measurements, in empty folders by the name of their file system. `say` prints. Needs fio with its nbd engine. */
export async function benchSnapshots(
  folders: Readonly<Record<string, string>>,
  rounds: number,
  say: (text: string) => void,
): Promise<void> {
  const later: Row[] = [];
  const first: Row[] = [];
  for (const [name, folder] of Object.entries(folders)) {
    for (const chunk of [64 * KIB, MIB]) later.push(...(await benchLater(name, folder, chunk, rounds)));
    first.push(...(await benchFirst(name, folder, {})));
  }
  for (const [name, folder] of Object.entries(folders))
    first.push(...(await benchFirst(`${name}, read and written`, folder, { VHDKIT_NO_NATIVE: '1' })));
  const rates = ['plain/s', 'snapshot/s', 'extents alike/s'];
  const costs = [
    'cost',
    'of extents',
    'of keeping',
    'plain CPU us',
    'snapshot CPU us',
    'alike CPU us',
    'wanted',
  ];
  const head = ['4 KiB random writes, depth 16', ...rates, ...costs];
  say(`\n### Snapshots: writes after the first touch\n\n${table(head, later)}`);
  const columns = ['4 KiB writes, one in each chunk', 'writes/s', 'ms each', 'KiB by system calls'];
  say(`\n### Snapshots: the first touch\n\n${table(columns, first)}`);
}

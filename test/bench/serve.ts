/**
 * `vhdkit serve` against qemu-nbd and nbdkit, with one client: fio's nbd engine, on files that are in the page cache.
 *
 * Contenders take turns, job by job, within each round; what is reported is the median over the rounds. fio and server
 * share the machine: on two cores a fast server is measured by how fast fio is.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { must, PROJECT_ROOT } from '../support/run.js';
import { median } from './measure.js';
import { type Row, table } from './table.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const MIB = 1024 * 1024;
const SECONDS = 3;

interface Job {
  name: string;
  args: readonly string[];
  /** Least ratio of our rate to another's that is wanted. */
  wanted: Readonly<Record<string, number>>;
}

const JOBS: readonly Job[] = [
  {
    name: '4 KiB random read, depth 16',
    args: ['--rw=randread', '--bs=4k', '--iodepth=16'],
    wanted: { 'qemu-nbd': 2 },
  },
  {
    name: '1 MiB sequential read',
    args: ['--rw=read', '--bs=1M', '--iodepth=4'],
    wanted: { 'qemu-nbd': 1, nbdkit: 0.9 },
  },
  {
    name: '4 KiB random write, depth 16',
    args: ['--rw=randwrite', '--bs=4k', '--iodepth=16'],
    wanted: { 'qemu-nbd': 1 },
  },
];

interface Server {
  name: string;
  command: string;
  args: (image: string, socket: string) => string[];
}

function servers(format: 'raw' | 'vhdx'): Server[] {
  const ours = (image: string, socket: string): string[] => {
    return [BIN, 'serve', image, '--name', 'd', '--listen', `unix:${socket}`, '--quiet'];
  };
  const list: Server[] = [
    { name: 'vhdkit', command: process.execPath, args: ours },
    {
      name: 'qemu-nbd',
      command: 'qemu-nbd',
      args: (image, socket) => ['-t', '-k', socket, '-x', 'd', '-f', format, image],
    },
  ];
  if (format === 'raw')
    list.push({
      name: 'nbdkit',
      command: 'nbdkit',
      args: (image, socket) => ['-f', '-U', socket, 'file', image],
    });
  return list;
}

async function start({ command, args }: Server, image: string, socket: string): Promise<ChildProcess> {
  rmSync(socket, { force: true });
  const server = spawn(command, args(image, socket), { stdio: ['ignore', 'ignore', 'inherit'] });
  for (let tries = 0; !existsSync(socket); tries += 1) {
    if (tries > 200) throw new Error(`${command} does not listen`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return server;
}

async function stop(server: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => server.once('close', resolve));
  server.kill('SIGTERM');
  await ended;
}

/** Requests per second. */
async function rate(job: Job, socket: string, size: number): Promise<number> {
  const output = `${socket}.json`;
  const common = ['--name=t', '--ioengine=nbd', `--uri=nbd+unix:///d?socket=${socket}`, `--size=${size}`];
  const time = ['--time_based', `--runtime=${SECONDS}`, '--output-format=json', `--output=${output}`];
  await must('fio', [...common, ...job.args, ...time], { timeout: 60_000 });
  const text = readFileSync(output, 'utf8');
  const [result] = JSON.parse(text.slice(text.indexOf('{'))).jobs;
  return result.read.iops + result.write.iops;
}

/** The measurements, in an empty folder. `say` prints. Needs fio, qemu-nbd, nbdkit and qemu-img. */
export async function benchServe(folder: string, rounds: number, say: (text: string) => void): Promise<void> {
  const size = 512 * MIB;
  const raw = path.join(folder, 'disk.raw');
  const vhdx = path.join(folder, 'disk.vhdx');
  await must('dd', ['if=/dev/urandom', `of=${raw}`, 'bs=1M', `count=${size / MIB}`, 'status=none']);
  await must('qemu-img', ['convert', '-f', 'raw', '-O', 'vhdx', '-o', 'subformat=dynamic', raw, vhdx]);
  await must('sync', []);
  const socket = path.join(folder, 's');
  const rows: Row[] = [];
  for (const [format, image] of [
    ['raw', raw],
    ['vhdx', vhdx],
  ] as const) {
    for (const job of JOBS) {
      const rates = new Map<string, number[]>(servers(format).map(({ name }) => [name, []]));
      for (let round = 0; round < rounds; round += 1) {
        for (const server of servers(format)) {
          const running = await start(server, image, socket);
          rates.get(server.name)?.push(await rate(job, socket, size));
          await stop(running);
        }
      }
      const ours = median(rates.get('vhdkit') ?? []);
      for (const [name, values] of rates) {
        const ratio = ours / median(values);
        const wanted = job.wanted[name];
        const verdict = wanted === undefined ? '' : ratio >= wanted ? `>= ${wanted}` : `< ${wanted} !`;
        rows.push([`${format}, ${job.name}`, name, median(values).toFixed(0), ratio.toFixed(2), verdict]);
      }
    }
  }
  say(table(['fio over NBD', 'server', 'requests/s', 'vhdkit is', 'wanted'], rows));
}

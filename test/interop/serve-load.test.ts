/**
 * fio writes to a served disk and checks what it wrote, while snapshots are made, exported, restored and deleted from
 * the command line. Every snapshot is read by programs that are not ours, judged against what fio wrote in which
 * order, and compared with its export; and it stays what it is when others go.
 *
 * A few seconds for each file system; minutes with VHDKIT_SOAK, or as long as VHDKIT_LOAD_SECONDS says.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { judge, type Region, type Shown, type State } from '../support/fio-history.js';
import { type FileSystemKind, mountNew } from '../support/mounts.js';
import { canMount, lacking } from '../support/requires.js';
import { must, PROJECT_ROOT, vhdkitJson } from '../support/run.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 24 * MiB;
const SECONDS = Number(process.env.VHDKIT_LOAD_SECONDS ?? (process.env.VHDKIT_SOAK ? 180 : 5));
/** Snapshots that are kept at a time. */
const KEPT = 2;

/** In pages, across chunks, and within pages. Nobody writes between and behind them. */
const REGIONS: readonly Region[] = [
  { offset: 0, size: 8 * MiB, unit: 4 * KiB, depth: 16 },
  { offset: 9 * MiB, size: 8 * MiB, unit: 20 * KiB, depth: 8 },
  { offset: 18 * MiB, size: MiB, unit: 512, depth: 16 },
];

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** One thing at a time. */
class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(action, action);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

class Site {
  readonly folder: string;
  readonly image: string;
  readonly #socket: string;
  readonly #control: string;
  #server: ChildProcess | undefined;

  constructor(folder: string) {
    this.folder = folder;
    this.image = path.join(folder, 'disk.img');
    this.#socket = path.join(folder, 'nbd.sock');
    this.#control = path.join(folder, 'control.sock');
  }

  async start(): Promise<void> {
    await fs.writeFile(this.image, '');
    await fs.truncate(this.image, SIZE);
    const sockets = ['--listen', `unix:${this.#socket}`, '--control', this.#control];
    const args = ['serve', this.image, '--name', 'disk', ...sockets, '--json'];
    const server = spawn(process.execPath, [path.join(PROJECT_ROOT, 'bin/run.js'), ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#server = server;
    onTestFinished(() => void server.kill('SIGKILL'));
    // The document is written as a whole when it listens.
    await new Promise<void>((resolve, reject) => {
      server.stdout?.once('data', () => resolve());
      server.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    });
  }

  /** As a service manager does it. Answers its exit code. */
  async stop(): Promise<number | null> {
    const ended = new Promise<number | null>((resolve) => this.#server?.once('exit', resolve));
    this.#server?.kill('SIGTERM');
    return ended;
  }

  uri(name = 'disk'): string {
    return `nbd+unix:///${name}?socket=${this.#socket}`;
  }

  /** `vhdkit snapshot VERB IMAGE …` of the running server. */
  snapshot(verb: string, ...args: string[]): Promise<Record<string, unknown>> {
    return vhdkitJson(['snapshot', verb, this.image, ...args, '--control', this.#control]);
  }

  /** All bytes of an export, by libnbd. */
  async read(name?: string): Promise<Buffer> {
    const { output } = await must('nbdcopy', [this.uri(name), '-']);
    expect(output.length).toBe(SIZE);
    return output;
  }

  /** A pass over all regions: written in random order and read back, or only read. */
  async fio(seed: number, ...more: string[]): Promise<void> {
    const common = ['--ioengine=nbd', `--uri=${this.uri()}`, '--rw=randwrite', '--verify=crc32c'];
    const checks = [
      '--verify_fatal=1',
      '--verify_state_save=0',
      '--fsync=256',
      `--randseed=${seed}`,
      ...more,
    ];
    const jobs = REGIONS.flatMap(({ offset, size, unit, depth }, index) => [
      `--name=job${index}`,
      ...[`--offset=${offset}`, `--size=${size - (size % unit)}`, `--bs=${unit}`, `--iodepth=${depth}`],
    ]);
    await must('fio', [...common, ...checks, ...jobs], { cwd: this.folder });
  }
}

/** What the disk held from pass to pass, and what snapshots showed meanwhile. */
class History {
  readonly #states = new Map<number, State>();
  readonly #waiting: Shown[] = [];
  /** Of the state that was complete last. */
  number = -1;
  judged = 0;
  /** Snapshots made in the midst of a pass. */
  amid = 0;

  add(state: State): void {
    this.number += 1;
    this.#states.set(this.number, state);
    for (const shown of this.#waiting.splice(0)) this.show(shown);
    const needed = Math.min(this.number, ...this.#waiting.map(({ first }) => first));
    // What is being made now may have begun one state ago.
    for (const number of this.#states.keys()) if (number < needed - 4) this.#states.delete(number);
  }

  show(shown: Shown): void {
    if (shown.last > this.number) {
      this.#waiting.push(shown);
      return;
    }
    judge(REGIONS, this.#states, shown);
    this.judged += 1;
    const isState = [...this.#states.values()].some(({ bytes }) => bytes.equals(shown.bytes));
    if (!isState) this.amid += 1;
  }
}

/** fio, pass after pass; what every second one wrote is put back afterwards, and fio finds what the first one wrote. */
async function writeOn(site: Site, history: History, turns: Turns, isOver: () => boolean): Promise<void> {
  for (let round = 1; !isOver(); round += 1) {
    const first = 2 * round;
    await site.fio(first);
    const bytes = await site.read();
    history.add({ bytes, by: 'pass' });
    const name = `round-${round}`;
    await turns.take(() => site.snapshot('create', name));
    await site.fio(first + 1);
    history.add({ bytes: await site.read(), by: 'pass' });
    expect(sha256(await site.read(`disk@${name}`))).toBe(sha256(bytes));
    await turns.take(() => site.snapshot('restore', name));
    history.add({ bytes: await site.read(), by: 'restore' });
    await site.fio(first, '--verify_only');
    await turns.take(() => site.snapshot('delete', name));
  }
}

interface Kept {
  name: string;
  sha256: string;
}

/** A new snapshot, read twice, exported, and judged. */
async function takeOne(
  site: Site,
  history: History,
  turns: Turns,
  name: string,
  format: 'raw' | 'vhdx',
): Promise<Kept> {
  const first = await turns.take(async () => {
    const { number } = history;
    await site.snapshot('create', name);
    return number;
  });
  const last = history.number + 1;
  const bytes = await site.read(`disk@${name}`);
  history.show({ name, bytes, first, last });
  const target = path.join(site.folder, `${name}.${format}`);
  await site.snapshot('export', name, target);
  await must('qemu-img', ['compare', '-f', format, '-F', 'raw', target, site.uri(`disk@${name}`)]);
  if (format === 'raw') expect(sha256(await fs.readFile(target))).toBe(sha256(bytes));
  await fs.rm(target);
  return { name, sha256: sha256(bytes) };
}

/** Snapshots come and go; those that stay show what they showed. */
async function snapshotOn(
  site: Site,
  history: History,
  turns: Turns,
  isOver: () => boolean,
): Promise<Kept[]> {
  const kept: Kept[] = [];
  const check = async ({ name, sha256: expected }: Kept): Promise<void> =>
    expect({ name, sha256: sha256(await site.read(`disk@${name}`)) }).toEqual({ name, sha256: expected });
  // At least so many that some have been deleted, however slow it goes.
  for (let count = 0; count < KEPT + 1 || !isOver(); count += 1) {
    kept.push(await takeOne(site, history, turns, `at-${count}`, count % 2 === 0 ? 'raw' : 'vhdx'));
    if (kept.length <= KEPT) continue;
    // The oldest, the newest and those between, in turn.
    const [gone] = kept.splice(count % (KEPT + 1), 1);
    await turns.take(() => site.snapshot('delete', gone?.name ?? ''));
    for (const each of kept) await check(each);
  }
  return kept;
}

const lacks = lacking('fio', 'nbdcopy', 'qemu-img');

describe.each<FileSystemKind>(['xfs', 'ext4'])('fio on a served disk on %s', (kind) => {
  const isMissing = lacks !== '' || !canMount(kind);
  const time = 120_000 + 4000 * SECONDS;

  it.skipIf(isMissing)(
    `finds what it wrote while snapshots come and go${lacks}`,
    { timeout: time },
    async () => {
      const mounted = mountNew(kind, 640);
      onTestFinished(() => mounted.unmount());
      const site = new Site(mounted.path);
      await site.start();
      const history = new History();
      const turns = new Turns();
      const until = performance.now() + 1000 * SECONDS;
      let snapshotsAreOver = false;
      history.add({ bytes: await site.read(), by: 'pass' });
      const writing = writeOn(site, history, turns, () => snapshotsAreOver);
      const snapshots = snapshotOn(site, history, turns, () => performance.now() > until).finally(() => {
        snapshotsAreOver = true;
      });
      const [kept] = await Promise.all([snapshots, writing]);
      expect(history.judged).toBeGreaterThan(KEPT);
      if (SECONDS >= 60) expect(history.amid).toBeGreaterThan(0);

      const content = await site.read();
      expect(await site.stop()).toBe(143);
      expect((await fs.readFile(site.image)).equals(content)).toBe(true);
      for (const { name, sha256: expected } of kept) {
        const target = path.join(site.folder, `${name}.img`);
        await vhdkitJson(['snapshot', 'export', site.image, name, target]);
        expect(sha256(await fs.readFile(target))).toBe(expected);
      }
      await vhdkitJson(['snapshot', 'delete', site.image, '--all']);
      expect((await fs.readFile(site.image)).equals(content)).toBe(true);
      expect((await fs.readdir(site.folder)).filter((name) => name.includes('snapshots'))).toEqual([]);
      if (SECONDS >= 60)
        process.stderr.write(`${kind}: ${history.judged} snapshots, ${history.amid} amid a pass\n`);
    },
  );
});

/**
 * A NATS server with JetStream, for tests: its own port, its own store folder; on the loopback, or at a host's
 * address. Its program is the one that is installed, or the one that VHDKIT_NATS_SERVER names (another version).
 *
 * Invariant: it can be killed and started again on the same port with the same data, and nothing of it is left
 * when the test run ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { NetworkHost } from './hosts.js';
import { makeTempFolder, removeFolder } from './tmp.js';
import { findTool } from './tools.js';

export interface NatsServer {
  readonly port: number;
  /** `nats://127.0.0.1:port`, or with the host's address. */
  readonly url: string;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
  /** Starts it again, with the data that it had. */
  start(): Promise<void>;
  /** Stops it from answering, without ending it, until `resume`. */
  suspend(): void;
  resume(): void;
  /** Ends it and removes its data. */
  remove(): Promise<void>;
}

export interface NatsServerOptions {
  jetstream?: boolean;
  /** More arguments: `--user a --pass b`. */
  args?: readonly string[];
  /** Where it runs; default: here. */
  host?: NetworkHost;
}

/** The program that is run. */
function program(): string {
  return process.env.VHDKIT_NATS_SERVER ?? findTool('nats-server') ?? 'nats-server';
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    // The server speaks first.
    socket.on('data', () => end(true));
    socket.on('error', () => end(false));
    socket.setTimeout(1000, () => end(false));
  });
}

/** A signal is sent before it is heard: on a busy machine a thread may still answer. */
function untilStopped(pid: number | undefined): void {
  const tasks = `/proc/${pid}/task`;
  const isStopped = (task: string): boolean => {
    try {
      return /\) [Tt] /.test(readFileSync(`${tasks}/${task}/stat`, 'latin1'));
    } catch {
      return true;
    }
  };
  for (let attempt = 0; existsSync(tasks) && attempt < 400; attempt += 1) {
    if (readdirSync(tasks).every(isStopped)) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  }
}

/** Starts a server. Its program must be there (`tool('nats-server')`). */
export async function startNats(options: NatsServerOptions = {}): Promise<NatsServer> {
  const folder = makeTempFolder('nats');
  const { host } = options;
  const address = host?.address ?? '127.0.0.1';
  // What is free here says nothing of other hosts, but is as good as any other number there.
  const port = await freePort();
  const isUp = () => (host ? host.answers(address, port) : answers(port));
  const stream = options.jetstream === false ? [] : ['-js', '-sd', folder];
  let child: ChildProcess | undefined;
  const start = async (): Promise<void> => {
    const args = ['-a', address, '-p', String(port), ...stream, ...(options.args ?? [])];
    const [command = '', ...rest] = [...(host?.within ?? []), program(), ...args];
    const started = spawn(command, rest, { stdio: 'ignore' });
    child = started;
    for (let attempt = 0; attempt < 200; attempt += 1) {
      if (started.exitCode !== null) throw new Error(`nats-server ended with status ${started.exitCode}`);
      if (await isUp()) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error('nats-server does not answer');
  };
  const kill = async (): Promise<void> => {
    const running = child;
    child = undefined;
    if (!running || running.exitCode !== null) return;
    const ended = new Promise((resolve) => running.once('exit', resolve));
    running.kill('SIGKILL');
    await ended;
  };
  await start();
  return {
    port,
    url: `nats://${address}:${port}`,
    kill,
    start,
    suspend: () => {
      child?.kill('SIGSTOP');
      untilStopped(child?.pid);
    },
    resume: () => child?.kill('SIGCONT'),
    remove: async () => {
      await kill();
      removeFolder(folder);
    },
  };
}

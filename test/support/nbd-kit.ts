/**
 * For tests of NBD: servers in this process, scripts for libnbd's shell, peers, certificates, and a client that can say
 * anything.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import type { Timer } from '../../src/base/timer.js';
import { systemTimer } from '../../src/base/timer.js';
import type { BlockDevice } from '../../src/block/block-device.js';
import { MemoryDevice } from '../../src/block/memory-device.js';
import type { NbdEvent } from '../../src/nbd/events.js';
import { ExportList, type NbdExport } from '../../src/nbd/export-table.js';
import type { NbdLimits } from '../../src/nbd/limits.js';
import { type NbdAddress, NbdServer } from '../../src/nbd/server.js';
import type { ServerTls } from '../../src/nbd/tls.js';
import { must, mustSync, type RunResult, run } from './run.js';
import { makeTempFolder } from './tmp.js';
import { findTool } from './tools.js';

export const MiB = 1 << 20;

export interface Served {
  server: NbdServer;
  exports: ExportList;
  socket: string;
  address: NbdAddress;
  events: NbdEvent[];
  /** `nbd+unix:///disk?socket=…` */
  uri(name?: string): string;
  close(): Promise<void>;
}

export interface ServeOptions {
  exports?: readonly NbdExport[];
  device?: BlockDevice;
  limits?: Partial<NbdLimits>;
  tls?: ServerTls;
  timer?: Timer;
}

/** A server at a Unix socket; without exports it serves `disk`, 8 MiB of memory. */
export async function serve(options: ServeOptions = {}): Promise<Served> {
  const socket = path.join(makeTempFolder('nbd'), 's');
  const exports = new ExportList();
  const device = options.device ?? new MemoryDevice(8 * MiB);
  for (const one of options.exports ?? [{ name: 'disk', device, readOnly: false }]) exports.add(one);
  const events: NbdEvent[] = [];
  const server = new NbdServer({
    exports,
    timer: options.timer ?? systemTimer,
    listener: (event) => events.push(event),
    ...(options.limits ? { limits: options.limits } : {}),
    ...(options.tls ? { tls: options.tls } : {}),
  });
  const address = await server.listen({ path: socket });
  const uri = (name = 'disk'): string => `nbd+unix:///${name}?socket=${socket}`;
  return { server, exports, socket, address, events, uri, close: () => server.close() };
}

/** The id of the connection that was made last. */
export function lastId(served: Served): number {
  return served.events.reduce((last, event) => (event.type === 'connected' ? event.id : last), 0);
}

/** Why a connection ended, as soon as it has. */
export async function closeReason(served: Served, id: number): Promise<string> {
  for (let tries = 0; tries < 500; tries++) {
    const event = served.events.find((one) => one.type === 'closed' && one.id === id);
    if (event?.type === 'closed') return event.reason;
    await systemTimer.sleep(10);
  }
  return 'still open';
}

/** Runs a script with `h`, a handle of libnbd, and `nbd`. What it prints is the answer. */
export async function nbdsh(script: string): Promise<string> {
  const prelude = 'import nbd, errno, sys, os\nh = nbd.NBD()\n';
  const result = await must('/usr/bin/python3', ['-c', prelude + script], { timeout: 60_000 });
  return result.stdout;
}

/** A peer server that is ended by `stop`. Resolves when it listens. */
export async function peer(
  command: string,
  args: readonly string[],
  socket: string,
): Promise<() => Promise<void>> {
  const program = findTool(command) ?? command;
  const child: ChildProcess = spawn(program, args, { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  for (let tries = 0; tries < 500 && !(await canConnect(socket)); tries++) await systemTimer.sleep(20);
  return async () => {
    child.kill('SIGTERM');
    await ended;
  };
}

function canConnect(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(socketPath);
    socket.once('error', () => resolve(false));
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
  });
}

/** A socket that says whatever a test wants, and gathers the answers. */
export class RawClient {
  readonly socket: net.Socket;
  received = Buffer.alloc(0);
  isClosed = false;
  #wake: (() => void) | undefined;

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.#wake?.();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      this.#wake?.();
    });
  }

  static connect(socketPath: string): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = net.connect(socketPath);
      socket.once('error', reject);
      socket.once('connect', () => resolve(new RawClient(socket)));
    });
  }

  /** Connects, and answers the greeting. */
  static async greeted(socketPath: string): Promise<RawClient> {
    const client = await RawClient.connect(socketPath);
    await client.take(18);
    client.send(u32(3));
    return client;
  }

  /** Connects, and chooses an export the old way: what follows are simple replies. */
  static async transmitting(socketPath: string, name = 'disk'): Promise<RawClient> {
    const client = await RawClient.greeted(socketPath);
    client.send(option(1, Buffer.from(name)));
    await client.take(10);
    return client;
  }

  send(...bytes: Buffer[]): void {
    this.socket.write(Buffer.concat(bytes));
  }

  /** The next bytes; fewer when the server closed before. */
  async take(count: number): Promise<Buffer> {
    while (this.received.length < count && !this.isClosed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = this.received.subarray(0, count);
    this.received = this.received.subarray(bytes.length);
    return bytes;
  }

  /** Waits for the end of the connection. */
  async closed(): Promise<void> {
    while (!this.isClosed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The errors of the next simple replies, in order of their cookies. */
  async simpleErrors(count: number): Promise<number[]> {
    const found: [number, number][] = [];
    for (let index = 0; index < count; index++) {
      const reply = await this.take(16);
      if (reply.length < 16) break;
      found.push([reply.readUInt32BE(12), reply.readUInt32BE(4)]);
    }
    return found.sort((a, b) => a[0] - b[0]).map(([, error]) => error);
  }
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, 4 * index);
  return bytes;
}

export function option(number: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from('IHAVEOPT'), u32(number, data.length), data]);
}

export function request(
  type: number,
  fields: { flags?: number; cookie?: number; offset?: number; length?: number } = {},
): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32BE(0x25609513);
  header.writeUInt16BE(fields.flags ?? 0, 4);
  header.writeUInt16BE(type, 6);
  const offset = Buffer.alloc(8);
  offset.writeBigUInt64BE(BigInt(fields.offset ?? 0));
  return Buffer.concat([header, u32(0, fields.cookie ?? 0), offset, u32(fields.length ?? 0)]);
}

export interface Certificates {
  /** With ca-cert.pem, server-*.pem and client-*.pem: what libnbd and nbdkit look for. */
  folder: string;
  /** With another authority's client-*.pem, and the right ca-cert.pem. */
  strangers: string;
}

/** Makes an authority, a server's certificate and a client's with openssl; needs `openssl`. */
export function makeCertificates(): Certificates {
  const folder = makeTempFolder('pki');
  const strangers = makeTempFolder('pki-strangers');
  issue(folder, ['server', 'client']);
  issue(strangers, ['client']);
  mustSync('cp', [path.join(folder, 'ca-cert.pem'), strangers]);
  return { folder, strangers };
}

function issue(folder: string, names: readonly string[]): void {
  const file = (name: string): string => path.join(folder, name);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const authority = ['-keyout', file('ca-key.pem'), '-out', file('ca-cert.pem')];
  mustSync('openssl', ['req', '-x509', ...key, ...authority, '-days', '30', '-subj', '/CN=test authority']);
  writeFileSync(file('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  for (const name of names) {
    const csr = ['-keyout', file(`${name}-key.pem`), '-out', file(`${name}.csr`)];
    mustSync('openssl', ['req', ...key, ...csr, '-subj', `/CN=${name}`]);
    const signed = ['-in', file(`${name}.csr`), '-out', file(`${name}-cert.pem`), '-days', '30'];
    const signer = ['-CA', file('ca-cert.pem'), '-CAkey', file('ca-key.pem'), '-CAcreateserial'];
    mustSync('openssl', ['x509', '-req', ...signed, ...signer, '-extfile', file('names')]);
  }
}

export { must, type RunResult, run };

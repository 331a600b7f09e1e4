/**
 * Tokens between two hosts that share storage and a NATS server: what one binds the other writes, refuses or sees
 * revoked; and servers that go away, are slow, or are not what they should be.
 */
import { spawn } from 'node:child_process';
import { chmodSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { lackingHosts, type NetworkHost, type TwoHosts, twoHosts } from '../support/hosts.js';
import { type MountedFileSystem, mountNew } from '../support/mounts.js';
import { type NatsServer, startNats } from '../support/nats.js';
import { canMount, lacking } from '../support/requires.js';
import { must, PROJECT_ROOT, run } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { runFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
const lacks =
  lacking('nats-server', 'mkfs.xfs') + lackingHosts() + (canMount('xfs') ? '' : ' (needs mounts)');

interface Refusal {
  code: string;
  message: string;
  hint?: string;
  context: Record<string, unknown>;
}

describe.skipIf(lacks)(`tokens between two hosts${lacks}`, { timeout: 60_000 }, () => {
  let hosts: TwoHosts;
  let shared: MountedFileSystem;
  let server: NatsServer;
  let a: NetworkHost;
  let b: NetworkHost;
  let data: Buffer;
  const at = (name: string): string => path.join(shared.path, name);
  const store = (): string[] => ['--token-store', server.url];

  beforeAll(async () => {
    hosts = twoHosts();
    ({ a, b } = hosts);
    shared = mountNew('xfs');
    server = await startNats({ host: a });
    data = seededBytes(4 * MiB, 1);
  });
  afterAll(async () => {
    await server?.remove();
    shared?.unmount();
    hosts?.remove();
  });

  /** A source with content, and a token for it that host `a` made. */
  async function bound(name: string, ...args: string[]): Promise<string> {
    writeFileSync(at(`${name}.img`), data);
    await a.json(['token', 'read', at(`${name}.img`), '-o', at(`${name}.tok`), ...args, ...store()]);
    return at(`${name}.tok`);
  }

  function newTarget(name: string, size = data.length): string {
    writeFileSync(at(name), '');
    truncateSync(at(name), size);
    return at(name);
  }

  async function refused(host: NetworkHost, args: readonly string[]): Promise<Refusal> {
    const { status, stdout, stderr } = await host.vhdkit([...args, '--json']);
    expect(status, stdout + stderr).not.toBe(0);
    return (JSON.parse(stdout) as { error: Refusal }).error;
  }

  it('what one binds the other writes, and no byte is copied', async () => {
    const token = await bound('plain');
    const target = newTarget('plain.out');
    const { bytes } = await b.json(['token', 'write', token, target, ...store()]);
    expect(bytes).toEqual({ shared: data.length, kernelCopied: 0, buffered: 0, zeroed: 0 });
    expect(readFileSync(target).equals(data)).toBe(true);
    // The server is reached through the network only: nothing answers without it.
    expect(await b.answers('127.0.0.1', server.port)).toBe(false);
    const { stdout } = await run('ip', ['-o', 'address']);
    expect(stdout).not.toContain(a.address);
  });

  it('a source overwritten by one: the persistent token shows the old data, the other one is refused', async () => {
    const vulnerable = await bound('changed');
    const kept = at('kept.tok');
    await a.json(['token', 'read', at('changed.img'), '-o', kept, '--mode', 'persistent', ...store()]);
    writeFileSync(at('changed.img'), Buffer.alloc(data.length, 7));
    const target = newTarget('changed.out');
    expect(await refused(b, ['token', 'write', vulnerable, target, ...store()])).toMatchObject({
      code: 'SOURCE_CHANGED',
      hint: expect.stringContaining('persistent'),
    });
    expect(readFileSync(target).every((byte) => byte === 0)).toBe(true);
    const { bytes } = await b.json(['token', 'write', kept, target, ...store()]);
    expect(bytes).toEqual({ shared: data.length, kernelCopied: 0, buffered: 0, zeroed: 0 });
    expect(readFileSync(target).equals(data)).toBe(true);
    // Counted by one, seen by the other.
    const { refusals } = await a.json(['token', 'list', ...store()]);
    expect(refusals).toEqual({ changed: 1 });
  });

  it('revoked by one, it is refused by the other, which has its own word for it', async () => {
    const token = await bound('revoked');
    await b.json(['token', 'revoke', token, ...store()]);
    const error = await refused(a, ['token', 'write', token, newTarget('revoked.out'), ...store()]);
    expect(error).toMatchObject({ code: 'TOKEN_INVALID', context: { reason: 'revoked' } });
  });

  it('survives a server that is killed, and meanwhile says that it is away', async () => {
    const token = await bound('server');
    const target = newTarget('server.out');
    await server.kill();
    const error = await refused(b, ['token', 'write', token, target, ...store()]);
    expect(error).toMatchObject({ code: 'TOKEN_STORE_FAILED', context: { reason: 'unreachable' } });
    expect(error.hint).toMatch(/\S/);
    expect(readFileSync(target).every((byte) => byte === 0)).toBe(true);
    await server.start();
    await b.json(['token', 'write', token, target, ...store()]);
    expect(readFileSync(target).equals(data)).toBe(true);
  });

  it('a write that has begun ends well although the server goes away', async () => {
    const token = await bound('begun');
    const target = newTarget('begun.out');
    onTestFinished(() => server.start());
    const [command = '', ...args] = [...b.within, process.execPath, path.join(PROJECT_ROOT, 'bin/run.js')];
    const rest = ['token', 'write', token, target, '--provider', 'buffered', '--rate', '1M', ...store()];
    const child = spawn(command, [...args, ...rest, '--progress', 'json'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    const begun = new Promise<void>((resolve) => {
      child.stderr.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (/"done":[1-9]/.test(said)) resolve();
      });
    });
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    await Promise.race([begun, ended]);
    await server.kill();
    expect(await ended, said).toBe(0);
    expect(readFileSync(target).equals(data)).toBe(true);
  });

  it('waits for a server that stands still for a moment', async () => {
    const token = await bound('slow');
    const target = newTarget('slow.out');
    server.suspend();
    setTimeout(() => server.resume(), 1500);
    await b.json(['token', 'write', token, target, ...store()]);
    expect(readFileSync(target).equals(data)).toBe(true);
  });

  it('servers and buckets that will not do are named as such', async () => {
    const plain = await startNats({ host: a, jetstream: false });
    onTestFinished(() => plain.remove());
    const read = ['token', 'read', at('plain.img'), '-o', at('never.tok')];
    const none = await refused(b, [...read, '--token-store', plain.url]);
    expect(none).toMatchObject({ code: 'TOKEN_STORE_FAILED', context: { reason: 'no-jetstream' } });
    const [command = '', ...args] = [
      ...a.within,
      process.execPath,
      '--input-type=module',
      '-e',
      MAKE_HISTORY,
    ];
    await must(command, [...args, `${a.address}:${server.port}`]);
    const shape = await refused(b, [...read, '--token-store', `${server.url}/history`]);
    expect(shape).toMatchObject({ code: 'TOKEN_STORE_FAILED', context: { reason: 'wrong-shape' } });
    for (const { hint } of [none, shape]) expect(hint).toMatch(/\S/);
  });

  it('a token gives no rights: a user who may not read the source is refused, and that is counted', async () => {
    // A second change of the mode would be a change of the file.
    writeFileSync(at('private.img'), '', { mode: 0o600 });
    const token = await bound('private');
    chmodSync(token, 0o644);
    chmodSync(runFolder(), 0o711);
    chmodSync(path.dirname(shared.path), 0o711);
    chmodSync(shared.path, 0o777);
    const target = newTarget('private.out');
    chmodSync(target, 0o666);
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const [command = '', ...args] = [...b.within, ...nobody, process.execPath, 'bin/run.js'];
    const writing = ['token', 'write', token, target, ...store(), '--json'];
    const env = { HOME: '/nonexistent', XDG_STATE_HOME: undefined };
    const { stdout, stderr } = await run(command, [...args, ...writing], { cwd: PROJECT_ROOT, env });
    expect(stdout, stderr).toContain('PERMISSION_DENIED');
    const { error } = JSON.parse(stdout) as { error: Refusal };
    expect(error).toMatchObject({ code: 'PERMISSION_DENIED', context: { path: at('private.img') } });
    expect(readFileSync(target).every((byte) => byte === 0)).toBe(true);
    const { refusals } = await a.json(['token', 'list', ...store()]);
    expect(refusals).toMatchObject({ forbidden: 1 });
  });
});

/** Makes a key-value bucket that keeps more than one value per key. */
const MAKE_HISTORY = `
  const { connect } = await import('@nats-io/transport-node');
  const { jetstreamManager } = await import('@nats-io/jetstream');
  const connection = await connect({ servers: process.argv[1] });
  const { streams } = await jetstreamManager(connection);
  await streams.add({ name: 'KV_history', subjects: ['$KV.history.>'], max_msgs_per_subject: 5 });
  await connection.close();`;

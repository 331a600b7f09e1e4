/** Token stores in NATS JetStream, on a real server: the suite, several processes, and servers that fail. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { bucketConfig } from '../../src/offload/store/nats-bucket.js';
import { openTokenStore } from '../../src/offload/store/open.js';
import type { TokenStore } from '../../src/offload/store/token-store.js';
import { describeTokenStore, sampleRecord } from '../conformance/token-store.suite.js';
import { makeChildProgram } from '../support/child-program.js';
import { type NatsServer, startNats } from '../support/nats.js';
import { lacking } from '../support/requires.js';
import { testFolder } from '../support/tmp.js';

const lacks = lacking('nats-server');

async function opened(location: string, timeout?: number): Promise<TokenStore> {
  const store = await openTokenStore(location, timeout === undefined ? {} : { timeout });
  onTestFinished(() => store.close());
  return store;
}

function refusal(reason: string, code = 'TOKEN_STORE_FAILED') {
  return { code, context: expect.objectContaining({ reason }), hint: expect.any(String) };
}

describe.skipIf(lacks)(`NATS token store${lacks}`, () => {
  let server: NatsServer;
  let buckets = 0;
  const bucket = () => {
    buckets += 1;
    return `b${buckets}`;
  };
  beforeAll(async () => {
    server = await startNats();
  });
  afterAll(() => server.remove());

  describeTokenStore('NATS', async () => {
    const location = `${server.url}/${bucket()}`;
    return Promise.all([openTokenStore(location), openTokenStore(location)]);
  });

  it('processes lose no update and agree on the key', async () => {
    const folder = testFolder('nats-processes');
    const location = `${server.url}/${bucket()}`;
    const store = await opened(location);
    await store.put(sampleRecord('shared', 0));
    const program = await makeChildProgram('token-store-child');
    const work = ['a', 'b', 'c'].map((name) => {
      const log = path.join(folder, name);
      const args = [program, location, log, name, '60'];
      const child = spawn(process.execPath, args, {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      return new Promise<string[]>((resolve) => {
        child.once('exit', () => resolve(readFileSync(log, 'utf8').trim().split('\n')));
      });
    });
    const told = await Promise.all(work);
    const key = `key ${Buffer.from(await store.key()).toString('hex')}`;
    expect(told.map(([first]) => first)).toEqual([key, key, key]);
    const revisions = told.flatMap(([, ...rest]) => rest);
    expect(new Set(revisions).size).toBe(180);
    expect((await store.get('shared'))?.record.lastUsed).toBe(180);
    expect(await store.count()).toBe(1);
  });

  async function foreignBucket(config: Record<string, unknown>): Promise<string> {
    const name = bucket();
    const connection = await connect({ servers: `127.0.0.1:${server.port}` });
    const manager = await jetstreamManager(connection);
    await manager.streams.add({
      name: `KV_${name}`,
      subjects: [`$KV.${name}.>`],
      max_msgs_per_subject: 1,
      discard: 'new',
      ...config,
    });
    if (config.description === 'used') await connection.request(`$KV.${name}.theirs`, 'value');
    await connection.close();
    return `${server.url}/${name}`;
  }

  it.each([
    ['records that vanish by themselves', { max_age: 60_000_000_000 }],
    ['old records dropped', { discard: 'old' }],
    ['a history', { max_msgs_per_subject: 5 }],
    ['memory only', { storage: 'memory' }],
    ['no deletion', { deny_delete: true }],
    ['small values only', { max_msg_size: 100 }],
  ])('refuses a bucket of another shape: %s', async (_, config) => {
    await expect(openTokenStore(await foreignBucket(config))).rejects.toMatchObject(refusal('wrong-shape'));
  });

  it("refuses another program's bucket, and one of a newer version", async () => {
    const used = await foreignBucket({ description: 'used' });
    await expect(openTokenStore(used)).rejects.toMatchObject(refusal('not-a-store'));
    const location = `${server.url}/${bucket()}`;
    await (await openTokenStore(location)).close();
    const connection = await connect({ servers: `127.0.0.1:${server.port}` });
    const header = JSON.stringify({ format: 'vhdkit token store', version: 2, key: '' });
    await connection.request(`$KV.b${buckets}.meta.store`, header);
    await connection.close();
    await expect(openTokenStore(location)).rejects.toMatchObject(refusal('newer-version'));
  });

  it('waits for a bucket whose subjects are there before its name is, as when another one makes it', async () => {
    const name = bucket();
    const connection = await connect({ servers: `127.0.0.1:${server.port}` });
    const { streams } = await jetstreamManager(connection);
    const config = bucketConfig(`KV_${name}`, `$KV.${name}.>`);
    await streams.add({ ...config, name: 'half-made' });
    const opening = openTokenStore(`${server.url}/${name}`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await streams.delete('half-made');
    await streams.add(config);
    await (await opening).close();
    // And does not wait for ever.
    await streams.add({ ...config, name: 'other', subjects: ['$KV.theirs.>'] });
    await expect(openTokenStore(`${server.url}/theirs`)).rejects.toMatchObject({ code: 'IO_FAILED' });
    await connection.close();
  });

  it('says that the bucket is full, and takes a record again after one was deleted', async () => {
    const store = await opened(await foreignBucket({ max_bytes: 4096 }));
    const put: string[] = [];
    const fill = async () => {
      for (let index = 0; index < 50; index += 1) {
        await store.put(sampleRecord(`t${index}`));
        put.push(`t${index}`);
      }
    };
    await expect(fill()).rejects.toMatchObject(refusal('full', 'NO_SPACE'));
    expect(put.length).toBeGreaterThan(2);
    expect(await store.count()).toBe(put.length);
    for (const id of put.slice(0, 2)) expect(await store.delete(id)).toBe(true);
    expect(await store.put(sampleRecord('again'))).toBeGreaterThan(0);
  });

  it('keeps records and key over the server being killed, and reconnects', async () => {
    const own = await startNats();
    onTestFinished(() => own.remove());
    const store = await opened(own.url, 1500);
    const key = await store.key();
    const revision = (await store.put(sampleRecord('a'))) ?? 0;
    await own.kill();
    await expect(store.update(sampleRecord('a', 2), revision)).rejects.toMatchObject({
      code: 'TOKEN_STORE_FAILED',
      context: { reason: expect.stringMatching(/unreachable|timeout/) },
    });
    await own.start();
    let again = await store.get('a').catch(() => undefined);
    for (let attempt = 0; attempt < 40 && !again; attempt += 1) {
      await new Promise((resolve) => setTimeout(resolve, 250));
      again = await store.get('a').catch(() => undefined);
    }
    // The update that got no answer was made once or not at all.
    expect([1, 2]).toContain(again?.record.lastUsed);
    expect(await store.update(sampleRecord('a', 3), again?.revision ?? 0)).toBeGreaterThan(revision);
    expect((await store.get('a'))?.record.lastUsed).toBe(3);
    const second = await opened(own.url);
    expect(await second.key()).toEqual(key);
    expect((await second.get('a'))?.record.lastUsed).toBe(3);
  });

  it('gives up on a server that does not answer in time, and goes on with it later', async () => {
    const own = await startNats();
    onTestFinished(() => own.remove());
    const store = await opened(own.url, 700);
    const revision = (await store.put(sampleRecord('a'))) ?? 0;
    own.suspend();
    await expect(store.get('a')).rejects.toMatchObject(refusal('timeout'));
    await expect(store.delete('a', revision)).rejects.toMatchObject(refusal('timeout'));
    await expect(openTokenStore(own.url, { timeout: 700 })).rejects.toMatchObject(
      refusal(expect.stringMatching(/timeout|unreachable/)),
    );
    own.resume();
    expect((await store.get('a'))?.revision).toBe(revision);
    await store.close();
    await expect(store.get('a')).rejects.toMatchObject(refusal('closed'));
  });

  it('notices that the bucket was removed', async () => {
    const location = `${server.url}/${bucket()}`;
    const store = await opened(location, 600);
    const connection = await connect({ servers: `127.0.0.1:${server.port}` });
    await (await jetstreamManager(connection)).streams.delete(`KV_b${buckets}`);
    await connection.close();
    await expect(store.get('a')).rejects.toMatchObject(refusal('gone'));
    await expect(store.put(sampleRecord('a'))).rejects.toMatchObject(refusal('gone'));
  });

  it('tells no server, no NATS, and no JetStream apart', async () => {
    await expect(openTokenStore('nats://127.0.0.1:1')).rejects.toMatchObject(refusal('unreachable'));
    const left = new Set<Socket>();
    const silent = createServer((socket) => {
      left.add(socket);
      socket.on('error', () => undefined).on('close', () => left.delete(socket));
    });
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void silent.close());
    const { port } = silent.address() as { port: number };
    await expect(openTokenStore(`nats://127.0.0.1:${port}`, { timeout: 500 })).rejects.toMatchObject(
      refusal(expect.stringMatching(/timeout|unreachable/)),
    );
    // A connection that was left open would keep the process from ending.
    await vi.waitFor(() => expect(left.size).toBe(0));
    const plain = await startNats({ jetstream: false });
    onTestFinished(() => plain.remove());
    await expect(openTokenStore(plain.url, { timeout: 500 })).rejects.toMatchObject(refusal('no-jetstream'));
    await expect(openTokenStore(plain.url.replace('nats:', 'tls:'))).rejects.toThrow('no TLS');
  });

  it('logs in with what the URL says, and never repeats the password', async () => {
    const own = await startNats({ args: ['--user', 'ann', '--pass', 'p@ss'] });
    onTestFinished(() => own.remove());
    const store = await opened(own.url.replace('//', '//ann:p%40ss@'));
    expect(await store.put(sampleRecord('a'))).toBeGreaterThan(0);
    const wrong = await openTokenStore(own.url.replace('//', '//ann:secret@')).catch((error) => error);
    expect(wrong).toMatchObject(refusal('access-denied', 'PERMISSION_DENIED'));
    expect(JSON.stringify([wrong.message, wrong.context])).not.toContain('secret');
  });
});

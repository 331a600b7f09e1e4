/** Limits, time and ends of connections: what a server does with clients that hold things up, and with its own end. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemTimer } from '../../../src/base/timer.js';
import type { BlockDevice } from '../../../src/block/block-device.js';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { type NbdDevice, openNbdExport } from '../../../src/nbd/client/client.js';
import { GatedDevice, SlowDevice } from '../../support/nbd-devices.js';
import {
  closeReason,
  lastId,
  MiB,
  RawClient,
  request,
  type Served,
  type ServeOptions,
  serve,
} from '../../support/nbd-kit.js';
import { SteppedTimer } from '../../support/stepped-timer.js';

async function started(options: ServeOptions = {}): Promise<Served> {
  const served = await serve(options);
  onTestFinished(() => served.close());
  return served;
}

function open(served: Served, name = 'disk'): Promise<NbdDevice> {
  return openNbdExport({ address: served.address, export: name, timer: systemTimer });
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1000 && !condition(); tries++) await systemTimer.sleep(5);
  expect(condition()).toBe(true);
}

/** A client that asks for much and takes nothing. */
async function greedy(served: Served, count: number, length: number): Promise<RawClient> {
  const client = await RawClient.transmitting(served.socket);
  client.socket.pause();
  for (let cookie = 0; cookie < count; cookie++) client.send(request(0, { cookie, length }));
  return client;
}

describe('time', () => {
  it('a client that does not finish its handshake is closed, one that has may stay for ever', async () => {
    const timer = new SteppedTimer();
    const served = await started({ timer });
    const silent = await RawClient.connect(served.socket);
    await silent.take(18);
    const silentId = lastId(served);
    const idle = await RawClient.transmitting(served.socket);
    const idleId = lastId(served);
    await timer.advance(29_000);
    expect(served.server.connections()).toHaveLength(2);
    await timer.advance(3_000);
    expect(await closeReason(served, silentId)).toBe('handshake-time');
    await timer.advance(600_000);
    expect(served.server.connections().map(({ id }) => id)).toEqual([idleId]);
    idle.send(request(3, { cookie: 9 }));
    expect(await idle.simpleErrors(1)).toEqual([0]);
    idle.socket.destroy();
  });

  it('one that neither takes its replies nor goes on with its payload is closed', async () => {
    const timer = new SteppedTimer();
    const served = await started({ timer });
    const deaf = await greedy(served, 8, 4 * MiB);
    const deafId = lastId(served);
    const halting = await RawClient.transmitting(served.socket);
    const haltingId = lastId(served);
    halting.send(request(1, { length: 1000 }), Buffer.alloc(10));
    await until(() => served.server.connections().every(({ held }) => held > 0));
    await timer.advance(55_000);
    expect(served.server.connections()).toHaveLength(2);
    halting.send(Buffer.alloc(10));
    await systemTimer.sleep(50);
    await timer.advance(8_000);
    expect(await closeReason(served, deafId)).toBe('stalled');
    expect(served.server.connections().map(({ id }) => id)).toEqual([haltingId]);
    await timer.advance(60_000);
    expect(await closeReason(served, haltingId)).toBe('stalled');
    deaf.socket.destroy();
  });
});

describe('connections', () => {
  it('when all are taken the oldest without an export makes room; else the newcomer is refused', async () => {
    const served = await started({ limits: { connections: 3 } });
    const [first, second] = [await RawClient.connect(served.socket), await RawClient.connect(served.socket)];
    await first.take(18);
    await second.take(18);
    const working = await RawClient.transmitting(served.socket);
    const newer = await RawClient.transmitting(served.socket);
    await first.closed();
    expect(await closeReason(served, 1)).toBe('displaced');
    const newest = await RawClient.transmitting(served.socket);
    await second.closed();
    const tooMany = await RawClient.connect(served.socket);
    await tooMany.closed();
    expect(served.events.at(-1)).toMatchObject({ type: 'refused' });
    expect(served.server.connections()).toHaveLength(3);
    for (const client of [working, newer, newest]) {
      client.send(request(3, { cookie: 1 }));
      expect(await client.simpleErrors(1)).toEqual([0]);
      client.socket.destroy();
    }
    await until(() => served.server.connections().length === 0);
  });

  it('are described', async () => {
    const served = await started();
    const device = await open(served);
    await device.write(Buffer.alloc(1000), 0);
    await device.read(Buffer.alloc(300), 0);
    expect(served.server.connections()).toMatchObject([
      {
        phase: 'transmission',
        export: 'disk',
        encrypted: false,
        requests: 2,
        bytesRead: 300,
        bytesWritten: 1000,
      },
    ]);
    await device.close();
  });
});

describe('memory', () => {
  it('what deaf clients can make the server hold is limited, and others go on', async () => {
    const limits = { sharedBytes: 16 * MiB, connectionBytes: 8 * MiB, reserveBytes: 1 * MiB };
    const served = await started({ device: new MemoryDevice(64 * MiB), limits });
    const filler = await open(served);
    await filler.write(Buffer.alloc(64 * MiB, 1), 0);
    const deaf = await Promise.all(Array.from({ length: 6 }, () => greedy(served, 100, 4 * MiB)));
    await until(() => served.server.sharedBytes > 8 * MiB);
    const held = served.server.connections().map((info) => info.held);
    expect(Math.max(...held)).toBeLessThanOrEqual(8 * MiB);
    expect(served.server.sharedBytes).toBeLessThanOrEqual(16 * MiB);
    const bytes = Buffer.alloc(256 * 1024);
    for (let turn = 0; turn < 50; turn++) await filler.read(bytes, turn * 65536);
    expect(bytes.every((byte) => byte === 1)).toBe(true);
    await filler.close();
    for (const client of deaf) client.socket.destroy();
    await until(() => served.server.connections().length === 0);
    await until(() => served.server.sharedBytes === 0);
  });

  it('who holds it without taking anything loses it early when others wait for it', async () => {
    const timer = new SteppedTimer();
    const limits = { sharedBytes: 8 * MiB, connectionBytes: 9 * MiB, reserveBytes: 1 * MiB };
    const served = await started({ device: new MemoryDevice(16 * MiB), limits, timer });
    const filler = await open(served);
    await filler.write(Buffer.alloc(16 * MiB, 1), 0);
    const deaf = await greedy(served, 100, 8 * MiB);
    const deafId = lastId(served);
    await until(() => served.server.sharedBytes > 6 * MiB);
    const waiting = await RawClient.transmitting(served.socket);
    waiting.send(request(0, { cookie: 1, length: 8 * MiB }));
    await systemTimer.sleep(50);
    expect(waiting.received.length).toBe(0);
    await timer.advance(9_000);
    expect(await closeReason(served, deafId)).toBe('stalled');
    expect((await waiting.take(16 + 8 * MiB)).length).toBe(16 + 8 * MiB);
    await filler.close();
    waiting.socket.destroy();
    deaf.socket.destroy();
  });

  it('floods of requests without payload wait in the client', async () => {
    const served = await started();
    const client = await RawClient.transmitting(served.socket);
    client.socket.pause();
    const flood = Buffer.concat(Array.from({ length: 20_000 }, (_, cookie) => request(3, { cookie })));
    for (let turn = 0; turn < 8; turn++) client.socket.write(flood);
    // 28 bytes each, answered by 16: what does not go on stays in the system's buffers and in the client.
    await systemTimer.sleep(300);
    expect(client.socket.writableLength).toBeGreaterThan(1 * MiB);
    const other = await open(served);
    await other.flush();
    await other.close();
    client.socket.resume();
    expect((await client.take(160_000 * 16)).length).toBe(160_000 * 16);
    client.socket.destroy();
  });
});

describe('fairness', () => {
  it('a client that asks without end does not keep others waiting', async () => {
    const served = await started({ device: new MemoryDevice(64 * MiB) });
    const busy = await open(served);
    let isOver = false;
    const buffers = Array.from({ length: 64 }, () => Buffer.alloc(256 * 1024));
    const load = Promise.all(
      buffers.map(async (buffer) => {
        while (!isOver) await busy.read(buffer, 0);
      }),
    );
    const other = await open(served);
    const before = served.server.connections()[0]?.requests ?? 0;
    for (let turn = 0; turn < 20; turn++) await other.read(Buffer.alloc(4096), 0);
    const during = (served.server.connections()[0]?.requests ?? 0) - before;
    isOver = true;
    await load;
    // While one small request is answered the other client gets a few turns at most: 64 requests each.
    expect(during).toBeLessThan(20 * 4 * 64);
    await busy.close();
    await other.close();
  });
});

describe('the end', () => {
  function gated(): { gate: GatedDevice; device: BlockDevice } {
    const gate = new GatedDevice(new MemoryDevice(8 * MiB));
    return { gate, device: gate };
  }

  it('close lets what is under way be answered', async () => {
    const { gate, device } = gated();
    const served = await serve({ device });
    const client = await open(served);
    const written = client.write(Buffer.alloc(100, 7), 0);
    await until(() => gate.waiting === 1);
    const closed = served.server.close({ grace: 60_000 });
    await expect(open(served)).rejects.toMatchObject({ code: expect.stringMatching(/NOT_FOUND|IO_FAILED/) });
    gate.open();
    await written;
    await closed;
    await expect(client.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
    expect(served.events.at(-1)).toMatchObject({ type: 'closed', reason: 'shutdown' });
  });

  it('close after its grace cuts off, but waits until the device is left alone', async () => {
    const { gate, device } = gated();
    const served = await serve({ device });
    const client = await open(served);
    const written = client.write(Buffer.alloc(100, 7), 0).catch((error: { code: string }) => error.code);
    await until(() => gate.waiting === 1);
    let isClosed = false;
    const closed = served.server.close({ grace: 20 }).then(() => {
      isClosed = true;
    });
    expect(await written).toBe('IO_FAILED');
    await systemTimer.sleep(50);
    expect(isClosed).toBe(false);
    gate.open();
    await closed;
  });

  it('an export that is dropped loses its connections and no others', async () => {
    const exports = ['a', 'b'].map((name) => ({
      name,
      device: new SlowDevice(new MemoryDevice(1 * MiB)),
      readOnly: false,
    }));
    const served = await started({ exports });
    const [a, b] = [await open(served, 'a'), await open(served, 'b')];
    const taken = served.exports.remove('a');
    expect(taken?.name).toBe('a');
    if (taken) await served.server.drop(taken, { grace: 1000 });
    await expect(a.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
    await b.read(Buffer.alloc(1), 0);
    await expect(open(served, 'a')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    served.exports.add({ name: 'a', device: new MemoryDevice(2 * MiB), readOnly: true });
    expect((await open(served, 'a')).size).toBe(2 * MiB);
    await b.close();
  });

  it('two servers at one place: the second is refused', async () => {
    const served = await started();
    await expect(served.server.listen({ path: served.socket })).rejects.toMatchObject({ code: 'IN_USE' });
    await expect(served.server.listen({ path: `${served.socket}/no/folder` })).rejects.toMatchObject({
      code: expect.stringMatching(/NOT_FOUND|PERMISSION_DENIED|IO_FAILED/),
    });
    // An address kept for documentation.
    const elsewhere = { host: '192.0.2.1', port: 0 };
    await expect(served.server.listen(elsewhere)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('a path too long for a socket is refused: the system would cut it off', async () => {
    const served = await started();
    const path = served.socket.padEnd(108, 'x');
    await expect(served.server.listen({ path })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const client = openNbdExport({ address: { path }, export: 'disk', timer: systemTimer });
    await expect(client).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const longest = { path: path.slice(0, 107) };
    expect(await served.server.listen(longest)).toEqual(longest);
    await (await openNbdExport({ address: longest, export: 'disk', timer: systemTimer })).close();
  });
});

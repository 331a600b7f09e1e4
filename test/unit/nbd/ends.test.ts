/** What waits for memory goes on however its connection ends, what is held is counted, and mistakes cost one connection. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemTimer } from '../../../src/base/timer.js';
import type { DeviceWriteOptions } from '../../../src/block/block-device.js';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { openNbdExport } from '../../../src/nbd/client/client.js';
import { GatedDevice } from '../../support/nbd-devices.js';
import {
  closeReason,
  lastId,
  MiB,
  option,
  RawClient,
  request,
  type Served,
  type ServeOptions,
  serve,
  u32,
} from '../../support/nbd-kit.js';

async function started(options: ServeOptions = {}): Promise<Served> {
  const served = await serve(options);
  onTestFinished(() => served.close());
  return served;
}

/** A client that gets structured replies; `contexts` are chosen. */
async function structured(served: Served, ...contexts: string[]): Promise<RawClient> {
  const client = await RawClient.greeted(served.socket);
  const text = (value: string): Buffer => Buffer.concat([u32(value.length), Buffer.from(value)]);
  client.send(option(8));
  if (contexts.length > 0)
    client.send(option(10, Buffer.concat([text('disk'), u32(contexts.length), ...contexts.map(text)])));
  client.send(option(1, Buffer.from('disk')));
  const answers = contexts.reduce((sum, each) => sum + 24 + each.length, 0);
  await client.take(20 + (contexts.length > 0 ? answers + 20 : 0) + 10);
  return client;
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 400 && !condition(); tries++) await systemTimer.sleep(5);
  expect(condition()).toBe(true);
}

describe('memory', () => {
  it('a read that waits for it in its middle is answered although the client said DISC', async () => {
    const gate = new GatedDevice(new MemoryDevice(4 * MiB));
    await gate.inner.write(Buffer.alloc(4 * MiB, 1), 0);
    const served = await started({ device: gate, limits: { connectionBytes: 2 * MiB } });
    const client = await structured(served);
    const id = lastId(served);
    client.send(request(0, { length: 4 * MiB }), request(2));
    await until(() => gate.waiting === 1);
    gate.open();
    expect((await client.take(4 * (MiB + 28))).length).toBe(4 * (MiB + 28));
    expect(await closeReason(served, id)).toBe('client');
  });

  it('a write longer than a connection may hold goes on as its pieces are done', async () => {
    const gate = new GatedDevice(new MemoryDevice(4 * MiB));
    const served = await started({ device: gate, limits: { connectionBytes: 2 * MiB } });
    const client = await openNbdExport({ address: served.address, export: 'disk', timer: systemTimer });
    let isDone = false;
    const written = client.write(Buffer.alloc(4 * MiB, 1), 0).then(() => {
      isDone = true;
    });
    await until(() => gate.waiting === 2);
    await systemTimer.sleep(20);
    gate.open();
    await until(() => isDone);
    await written;
    await client.close();
  });

  it('block status counts as held until the client has taken it', async () => {
    const extents = Array.from({ length: 4096 }, (_, index) => ({ length: 512, flags: index % 2 }));
    const contexts = [{ name: 'x:y', extents: async () => extents.map((extent) => ({ ...extent })) }];
    const device = new MemoryDevice(4 * MiB);
    const served = await started({ exports: [{ name: 'disk', device, readOnly: false, contexts }] });
    const client = await structured(served, 'x:y');
    client.socket.pause();
    for (let cookie = 0; cookie < 200; cookie++) client.send(request(7, { cookie, length: 2 * MiB }));
    const info = () => served.server.connections()[0];
    await until(() => (info()?.requests ?? 0) > 40 && info()?.inFlight === 0);
    expect(info()?.held).toBeGreaterThan(1 * MiB);
    client.socket.resume();
    await client.take(200 * (24 + 8 * 4096));
    await until(() => info()?.held === 0);
    client.socket.destroy();
  });

  it('a small write that has to wait does not keep the chunk that it came in', async () => {
    class Watching extends GatedDevice {
      readonly kept: number[] = [];
      override async write(bytes: Uint8Array, offset: number, options?: DeviceWriteOptions): Promise<void> {
        this.kept.push(bytes.buffer.byteLength);
        await super.write(bytes, offset, options);
        expect(await this.#content(offset, bytes.length)).toEqual(Buffer.from(bytes));
      }
      async #content(offset: number, length: number): Promise<Buffer> {
        const buffer = Buffer.alloc(length);
        await this.inner.read(buffer, offset);
        return buffer;
      }
    }
    const device = new Watching(new MemoryDevice(1 * MiB));
    const served = await started({ device });
    const client = await RawClient.transmitting(served.socket);
    const nonsense = Array.from({ length: 1000 }, () => request(99));
    client.send(request(1, { length: 512 }), Buffer.alloc(512, 7), ...nonsense);
    await until(() => device.waiting === 1);
    expect(device.kept[0]).toBeLessThanOrEqual(4096);
    device.open();
    expect((await client.take(1001 * 16)).length).toBe(1001 * 16);
    client.socket.destroy();
  });
});

describe('a mistake of the program', () => {
  const mistake = new TypeError('told to be a mistake');
  const fails = (): never => {
    throw mistake;
  };

  /** Serves `disk` and `sound`. */
  function two(): Promise<Served> {
    const names = ['disk', 'sound'];
    return started({
      exports: names.map((name) => ({ name, device: new MemoryDevice(1 * MiB), readOnly: false })),
    });
  }

  async function expectOneCutOff(served: Served, client: RawClient): Promise<void> {
    await client.closed();
    expect(await closeReason(served, 1)).toBe('fault');
    expect(served.events).toContainEqual({ type: 'fault', id: 1, error: mistake });
    const other = await openNbdExport({ address: served.address, export: 'sound', timer: systemTimer });
    await other.read(Buffer.alloc(512), 0);
    await other.close();
  }

  it('in the handshake ends one connection', async () => {
    const served = await two();
    const find = served.exports.find.bind(served.exports);
    served.exports.find = (name) => (name === 'disk' ? fails() : find(name));
    const client = await RawClient.greeted(served.socket);
    client.send(option(1, Buffer.from('disk')));
    await expectOneCutOff(served, client);
  });

  it('at the begin of a request, too', async () => {
    const served = await two();
    const client = await RawClient.transmitting(served.socket);
    Object.defineProperty(served.exports.find('disk')?.device, 'size', { get: fails });
    client.send(request(0, { length: 512 }));
    await expectOneCutOff(served, client);
  });

  it('and where a failure is told', async () => {
    const served = await two();
    const device = served.exports.find('disk')?.device;
    if (device) device.flush = fails;
    const push = served.events.push.bind(served.events);
    served.events.push = (...events) => (events[0]?.type === 'failed' ? fails() : push(...events));
    const client = await RawClient.transmitting(served.socket);
    client.send(request(3));
    await expectOneCutOff(served, client);
  });
});

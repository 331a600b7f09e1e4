/** Encrypted connections: libnbd and our client before our server, our client before nbdkit; who is let in and who is not. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemTimer } from '../../src/base/timer.js';
import { type NbdDevice, openNbdExport } from '../../src/nbd/client/client.js';
import type { NbdAddress } from '../../src/nbd/server.js';
import { NbdServer } from '../../src/nbd/server.js';
import type { ClientTls, ServerTls } from '../../src/nbd/tls.js';
import {
  type Certificates,
  closeReason,
  lastId,
  MiB,
  makeCertificates,
  must,
  option,
  peer,
  RawClient,
  run,
  type Served,
  serve,
} from '../support/nbd-kit.js';
import { lacking } from '../support/requires.js';
import { makeTempFolder } from '../support/tmp.js';

const lacks = lacking('openssl', 'nbdinfo', 'nbdcopy');

describe.skipIf(lacks)(`TLS${lacks}`, () => {
  let pki: Certificates;
  let any: Served;
  let known: Served;
  let choice: Served;

  function pem(name: string, folder = pki.folder): Buffer {
    return readFileSync(path.join(folder, name));
  }

  function serverTls(): ServerTls {
    return { certificate: pem('server-cert.pem'), key: pem('server-key.pem') };
  }

  function clientTls(folder = pki.folder): ClientTls {
    return {
      authority: pem('ca-cert.pem', folder),
      certificate: pem('client-cert.pem', folder),
      key: pem('client-key.pem', folder),
    };
  }

  beforeAll(async () => {
    pki = makeCertificates();
    any = await serve({ tls: serverTls() });
    known = await serve({ tls: { ...serverTls(), clientAuthority: pem('ca-cert.pem') } });
    choice = await serve({ tls: { ...serverTls(), optional: true } });
  });
  afterAll(() => Promise.all([any.close(), known.close(), choice.close()]));

  function uri(served: Served, certificates: string): string {
    return `nbds+unix:///disk?socket=${served.socket}&tls-certificates=${certificates}`;
  }

  it('nbdinfo and nbdcopy over nbds, both ways', async () => {
    const { stdout } = await must('nbdinfo', ['--json', uri(known, pki.folder)]);
    expect(JSON.parse(stdout)).toMatchObject({ protocol: 'newstyle-fixed', TLS: true, structured: true });
    const folder = makeTempFolder('tls');
    const file = path.join(folder, 'there');
    writeFileSync(file, Buffer.alloc(8 * MiB, 'some text to be encrypted'));
    await must('nbdcopy', [file, uri(known, pki.folder)]);
    await must('nbdcopy', [uri(any, pki.folder), path.join(folder, 'empty')]);
    await must('nbdcopy', [uri(known, pki.folder), path.join(folder, 'back')]);
    expect(readFileSync(path.join(folder, 'back')).equals(readFileSync(file))).toBe(true);
    expect(readFileSync(path.join(folder, 'empty')).every((byte) => byte === 0)).toBe(true);
    const ready = known.events.find((event) => event.type === 'ready');
    expect(ready).toMatchObject({ encrypted: true, subject: 'client' });
    expect(any.events.find((event) => event.type === 'ready')).not.toHaveProperty('subject');
  });

  it('a client without a certificate, or with one of somebody else, is not let in where they are checked', async () => {
    const strange = await run('nbdinfo', [uri(known, pki.strangers)]);
    expect(strange.status).not.toBe(0);
    expect(await closeReason(known, lastId(known))).toBe('tls');
    const bare = makeTempFolder('tls-bare');
    writeFileSync(path.join(bare, 'ca-cert.pem'), pem('ca-cert.pem'));
    expect((await run('nbdinfo', [uri(known, bare)])).status).not.toBe(0);
    expect(await closeReason(known, lastId(known))).toBe('tls');
    expect((await run('nbdinfo', [uri(any, bare)])).status).toBe(0);
  });

  it('without TLS a server that demands it answers nothing but STARTTLS', async () => {
    expect((await run('nbdinfo', [any.uri()])).status).not.toBe(0);
    const client = await RawClient.greeted(any.socket);
    for (const number of [3, 6, 7, 8, 9, 10, 77]) {
      client.send(option(number));
      const reply = await client.take(20);
      expect(reply.readUInt32BE(12)).toBe(0x80000005);
      await client.take(reply.readUInt32BE(16));
    }
    client.send(option(1, Buffer.from('disk')));
    await client.closed();
    expect(await closeReason(any, lastId(any))).toBe('protocol');
  });

  it('what was sent in the clear behind STARTTLS is not taken for encrypted', async () => {
    const client = await RawClient.greeted(any.socket);
    client.send(option(5), option(3));
    await client.closed();
    expect(client.received.length).toBeLessThanOrEqual(20);
    expect(await closeReason(any, lastId(any))).toBe('protocol');
  });

  it('what does not speak TLS after STARTTLS is cut off', async () => {
    const client = await RawClient.greeted(any.socket);
    client.send(option(5));
    await client.take(20);
    client.send(Buffer.from('HELLO? IS ANYBODY THERE?\n'.repeat(20)));
    await client.closed();
    expect(await closeReason(any, lastId(any))).toBe('tls');
  });

  it('where TLS may be had, both are let in', async () => {
    await must('nbdinfo', [choice.uri()]);
    await must('nbdinfo', [uri(choice, pki.folder)]);
    const encrypted = choice.events.flatMap((event) => (event.type === 'ready' ? [event.encrypted] : []));
    expect(encrypted).toEqual([false, true]);
  });

  async function exchange(options: {
    address: NbdAddress;
    tls?: ClientTls;
    name?: string;
  }): Promise<NbdDevice> {
    const { address, tls, name = 'disk' } = options;
    const device = await openNbdExport({
      address,
      export: name,
      timer: systemTimer,
      ...(tls ? { tls } : {}),
    });
    const bytes = Buffer.alloc(3 * MiB, 'secret');
    await device.write(bytes, 1000, { durable: true });
    const back = Buffer.alloc(bytes.length);
    await device.read(back, 1000);
    expect(back.equals(bytes)).toBe(true);
    return device;
  }

  it('our client speaks it, and verifies the server', async () => {
    await (await exchange({ address: known.address, tls: clientTls() })).close();
    await expect(exchange({ address: any.address })).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(exchange({ address: any.address, tls: {} })).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
    const wrongName = { ...clientTls(), serverName: 'example.org' };
    await expect(exchange({ address: any.address, tls: wrongName })).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
    const stranger = { ...clientTls(pki.strangers), authority: pem('ca-cert.pem') };
    await expect(exchange({ address: known.address, tls: stranger })).rejects.toMatchObject({
      code: expect.stringMatching(/PERMISSION_DENIED|IO_FAILED/),
    });
  });

  it.skipIf(lacking('nbdkit'))('our client speaks it with nbdkit', async () => {
    const socket = path.join(makeTempFolder('nbdkit'), 's');
    const args = ['-f', '--tls=require', `--tls-certificates=${pki.folder}`, '--tls-verify-peer'];
    const stop = await peer('nbdkit', [...args, '-U', socket, 'memory', '8M'], socket);
    await (await exchange({ address: { path: socket }, tls: clientTls(), name: '' })).close();
    await stop();
  });

  it('over TCP, too', async () => {
    const { exports } = any;
    const server = new NbdServer({ exports, timer: systemTimer, tls: serverTls() });
    const address = await server.listen({ host: '127.0.0.1', port: 0 });
    await (await exchange({ address, tls: clientTls() })).close();
    await server.close();
  });

  it('a key that does not belong to the certificate is refused when the server is made', () => {
    const tls = { certificate: pem('server-cert.pem'), key: pem('client-key.pem') };
    expect(() => new NbdServer({ exports: any.exports, timer: systemTimer, tls })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});

/** Programs of others on our server as their users run them: nbdinfo, nbdcopy, qemu-img, qemu-io, fio, nbd-client, nbdkit. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemTimer } from '../../src/base/timer.js';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { NbdServer } from '../../src/nbd/server.js';
import { SlowDevice } from '../support/nbd-devices.js';
import { MiB, must, peer, run, type Served, serve } from '../support/nbd-kit.js';
import { lacking } from '../support/requires.js';
import { makeTempFolder } from '../support/tmp.js';

const SIZE = 64 * MiB;

/** Data, zeros, data, by the mebibyte. */
function patchwork(): Buffer {
  const bytes = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; at += 4)
    if (Math.floor(at / MiB) % 3 !== 1) bytes.writeUInt32LE((at * 2654435761) >>> 0, at);
  return bytes;
}

let served: Served;
let disk: MemoryDevice;
const content = patchwork();
const folder = makeTempFolder('nbd-tools');
const file = path.join(folder, 'disk.raw');

beforeAll(async () => {
  disk = new MemoryDevice(SIZE);
  served = await serve({
    exports: [
      { name: 'disk', device: disk, readOnly: false },
      { name: 'slow', device: new SlowDevice(new MemoryDevice(SIZE)), readOnly: false },
      { name: 'empty', device: new MemoryDevice(SIZE), readOnly: false },
    ],
  });
  writeFileSync(file, content);
});
afterAll(() => served.close());

const lacks = lacking('nbdcopy', 'nbdinfo');
describe.skipIf(lacks)(`libnbd${lacks}`, () => {
  it.each([
    ['as it likes', []],
    ['four connections, many requests', ['-C', '4', '-R', '64']],
    ['one after the other', ['--synchronous']],
    ['large requests', ['--request-size=33554432']],
  ])('nbdcopy there and back: %s', async (_, args) => {
    for (const name of ['disk', 'slow']) {
      const back = path.join(folder, 'back.raw');
      await must('nbdcopy', [...args, file, served.uri(name)]);
      await must('nbdcopy', [...args, served.uri(name), back]);
      expect(readFileSync(back).equals(content), name).toBe(true);
    }
  });

  it('nbdcopy from one export to another, which has the same holes afterwards', async () => {
    await disk.zero(0, SIZE);
    await must('nbdcopy', [file, served.uri('disk')]);
    await must('nbdcopy', ['--destination-is-zero', served.uri('disk'), served.uri('empty')]);
    const maps = await Promise.all(
      ['disk', 'empty'].map((name) => must('nbdinfo', ['--map', served.uri(name)])),
    );
    const [first, second] = maps.map(({ stdout }) => stdout.trim().split('\n'));
    expect(first).toEqual(second);
    expect(first).toHaveLength(43);
    expect(first?.[1]).toMatch(/^ *1048576 +1048576 +3 +hole,zero$/);
  });

  it.each(['zero', 'fast-zero', 'trim', 'flush', 'fua', 'df', 'multi-conn', 'cache'])(
    'nbdinfo --can %s',
    async (what) => expect((await run('nbdinfo', ['--can', what, served.uri()])).status).toBe(0),
  );
});

const lacksQemu = lacking('qemu-img', 'qemu-io');
describe.skipIf(lacksQemu)(`QEMU${lacksQemu}`, () => {
  it('qemu-img: info, convert both ways, map, compare, bench', async () => {
    const info = JSON.parse((await must('qemu-img', ['info', '--output=json', served.uri('slow')])).stdout);
    expect(info).toMatchObject({ 'virtual-size': SIZE, format: 'raw' });
    await must('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', file, served.uri('slow')]);
    await must('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', file, served.uri('slow')]);
    const back = path.join(folder, 'qemu.raw');
    await must('qemu-img', ['convert', '-f', 'raw', '-O', 'raw', served.uri('slow'), back]);
    expect(readFileSync(back).equals(content)).toBe(true);
    const map = JSON.parse((await must('qemu-img', ['map', '--output=json', served.uri('slow')])).stdout);
    expect(map).toHaveLength(43);
    expect(map[1]).toMatchObject({ start: MiB, length: MiB, zero: true });
    await must('qemu-img', [
      'bench',
      '-c',
      '2000',
      '-d',
      '32',
      '-s',
      '8k',
      '-f',
      'raw',
      '-w',
      served.uri('slow'),
    ]);
  });

  it('qemu-io: patterns, zeros with and without unmapping, discard, flush, FUA', async () => {
    const script = [
      'write -P 0xab 0 1M',
      'write -f -P 0xcd 1M 64k',
      'write -z -u 2M 1M',
      'write -z 3M 100k',
      'discard 4M 1M',
      'flush',
      'read -P 0xab 0 1M',
      'read -P 0xcd 1M 64k',
      'read -P 0 2M 1M',
      'read -P 0 3M 100k',
    ];
    const result = await must('qemu-io', [
      '-f',
      'raw',
      ...script.flatMap((line) => ['-c', line]),
      served.uri(),
    ]);
    expect(result.stdout).not.toContain('failed');
  });
});

const lacksFio = lacking('fio');
describe.skipIf(lacksFio)(`fio${lacksFio}`, () => {
  it('random reads and writes with checksums', async () => {
    const args = ['--name=t', '--ioengine=nbd', '--rw=randrw', '--bsrange=512-128k', '--iodepth=16'];
    const checks = ['--size=32M', '--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0'];
    for (const name of ['disk', 'slow'])
      await must('fio', [...args, ...checks, `--uri=${served.uri(name)}`], { cwd: folder });
  });
});

const lacksPeers = lacking('nbdkit', 'qemu-io');
describe.skipIf(lacksPeers)(`nbdkit${lacksPeers}`, () => {
  it('as a middleman that delays and cuts in pieces', async () => {
    const socket = path.join(makeTempFolder('middle'), 's');
    const args = [
      '-f',
      '-U',
      socket,
      '--filter=blocksize',
      '--filter=delay',
      'nbd',
      `uri=${served.uri('empty')}`,
    ];
    const stop = await peer('nbdkit', [...args, 'rdelay=1ms', 'maxlen=64k', 'minblock=4k'], socket);
    const uri = `nbd+unix:///?socket=${socket}`;
    const script = [
      'write -P 0x55 12345 200000',
      'read -P 0x55 12345 200000',
      'write -z 20000 50000',
      'flush',
    ];
    await must('qemu-io', ['-f', 'raw', ...script.flatMap((line) => ['-c', line]), uri]);
    await stop();
    const shown = Buffer.alloc(1);
    await served.exports.find('empty')?.device.read(shown, 12345);
    expect(shown[0]).toBe(0x55);
  });
});

const lacksClient = lacking('nbd-client', 'nbdinfo');
describe.skipIf(lacksClient)(`over TCP${lacksClient}`, () => {
  it('nbd-client lists, nbdinfo describes', async () => {
    const server = new NbdServer({ exports: served.exports, timer: systemTimer });
    const address = await server.listen({ host: '127.0.0.1', port: 0 });
    const port = 'port' in address ? address.port : 0;
    const { stdout } = await must('nbd-client', ['-l', '127.0.0.1', `${port}`]);
    expect(stdout.split('\n')).toEqual(expect.arrayContaining(['disk', 'slow', 'empty']));
    await must('nbdinfo', [`nbd://127.0.0.1:${port}/disk`]);
    await server.close();
  });
});

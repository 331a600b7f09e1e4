/**
 * Write-once devices over NBD: the same suite through client and server, and what clients that are not ours see.
 */
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemTimer } from '../../src/base/timer.js';
import { WriteOnceExport } from '../../src/layers/write-once/export.js';
import { createWriteOnce, openWriteOnce } from '../../src/layers/write-once/open.js';
import { RemoteWriteOnceDevice, remoteContexts } from '../../src/layers/write-once/remote.js';
import { openNbdExport } from '../../src/nbd/client/client.js';
import {
  expectChunk,
  filled,
  PRIMARY,
  readChunk,
  writeOnceSuite,
  writtenOf,
} from '../conformance/write-once.suite.js';
import { nbdsh, type Served, serve } from '../support/nbd-kit.js';
import { lacking } from '../support/requires.js';
import { must } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const CHUNK = 65_536;

async function serveDevice(
  chunks: number,
  tail: number,
): Promise<{ served: Served; file: string; size: number }> {
  const file = path.join(testFolder('write-once-nbd'), 'device');
  const size = chunks * CHUNK + tail;
  await createWriteOnce('sparse', file, { size, chunkSize: CHUNK, primaryId: PRIMARY });
  const device = new WriteOnceExport(await openWriteOnce(file, { primaryId: PRIMARY }));
  const exports = [
    { name: 'disk', device, readOnly: false, contexts: device.contexts() },
    { name: 'look', device, readOnly: true, contexts: device.contexts() },
  ];
  const served = await serve({ exports });
  onTestFinished(async () => {
    await served.close();
    await device.close();
  });
  return { served, file, size };
}

writeOnceSuite('over NBD', () => ({
  chunkSize: CHUNK,
  async create(chunks, tail) {
    const { served, size } = await serveDevice(chunks, tail);
    return {
      shared: true,
      async open(expected = {}) {
        const shape = { size, chunkSize: CHUNK, primaryId: PRIMARY, ...expected };
        const device = await openNbdExport({
          address: served.address,
          timer: systemTimer,
          export: expected.writable === false ? 'look' : 'disk',
          contexts: ['base:allocation', ...remoteContexts(shape)],
        });
        try {
          return await RemoteWriteOnceDevice.of(device, shape, { empty: expected.empty ?? false });
        } catch (error) {
          await device.close();
          throw error;
        }
      },
    };
  },
}));

/** Connects, and defines what a request ends with: `ok` or the name of the error. */
function script(served: Served, body: string, structured = true): string {
  return `h.set_strict_mode(0)
h.set_request_structured_replies(${structured ? 'True' : 'False'})
h.add_meta_context('base:allocation')
h.connect_uri('${served.uri()}')
def end(work):
    try:
        work()
        return 'ok'
    except nbd.Error as error:
        return error.errno
${body}`;
}

const lacks = lacking('nbdinfo');
describe.skipIf(lacks)(`a write-once device and libnbd${lacks}`, () => {
  it.each([true, false])(
    'refusals are errors of the protocol (structured replies: %s)',
    async (structured) => {
      const { served } = await serveDevice(3, 512);
      const body = `
print(end(lambda: h.pread(512, 0)))
print(end(lambda: h.pwrite(b'a' * 512, 0)))
print(end(lambda: h.pwrite(b'a' * ${CHUNK}, 512)))
print(end(lambda: h.pwrite(b'a' * ${CHUNK}, 0)))
print(end(lambda: h.pwrite(b'b' * ${CHUNK}, 0)))
print(end(lambda: h.pwrite(b'b' * ${2 * CHUNK}, 0)))
print(end(lambda: h.pread(${CHUNK} + 1, 0)))
print(h.pread(3, ${CHUNK - 3}))
print(end(lambda: h.pwrite(b'c' * ${CHUNK + 512}, ${2 * CHUNK})))
print(h.pread(${CHUNK + 512}, ${2 * CHUNK}) == b'c' * ${CHUNK + 512})
print(end(lambda: h.flush()), h.can_trim(), h.can_zero(), h.can_multi_conn())
`;
      expect((await nbdsh(script(served, body, structured))).trim().split('\n')).toEqual([
        'ENOTSUP',
        'EINVAL',
        'EINVAL',
        'ok',
        'EPERM',
        'EPERM',
        'ENOTSUP',
        "bytearray(b'aaa')",
        'ok',
        'True',
        'ok False True True',
      ]);
    },
  );

  it('shows what is written as data, and the rest as holes that are not zeros', async () => {
    const { served } = await serveDevice(8, 512);
    await nbdsh(
      script(served, `h.pwrite(b'a' * ${CHUNK}, ${2 * CHUNK})\nh.pwrite(b'a' * 512, ${8 * CHUNK})`),
    );
    const map = JSON.parse((await must('nbdinfo', ['--json', '--map', served.uri()])).stdout) as {
      length: number;
      type: number;
    }[];
    expect(map.map(({ length, type }) => [length, type])).toEqual([
      [2 * CHUNK, 1],
      [CHUNK, 0],
      [5 * CHUNK, 1],
      [512, 0],
    ]);
  });

  it('lets one of several processes win each chunk', async () => {
    const { served, file } = await serveDevice(40, 0);
    const body = (writer: number): string => `
won = []
for chunk in range(40):
    data = bytes([${writer}]) * ${CHUNK}
    if end(lambda: h.pwrite(data, chunk * ${CHUNK})) == 'ok': won.append(chunk)
print(*won)
`;
    const outputs = await Promise.all([1, 2, 3].map((writer) => nbdsh(script(served, body(writer)))));
    const won = outputs.map((text) => (text.trim() === '' ? [] : text.trim().split(' ').map(Number)));
    expect(won.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, chunk) => chunk));
    const device = await openWriteOnce(file, { writable: false });
    expect((await writtenOf(device)).length).toBe(40);
    for (const [index, chunks] of won.entries())
      for (const chunk of chunks)
        expectChunk(await readChunk(device, chunk), new Uint8Array(CHUNK).fill(index + 1), `chunk ${chunk}`);
    await device.close();
  });
});

it('a chunk that is known as written to one host is refused to the other', async () => {
  const { served, size } = await serveDevice(2, 0);
  const shape = { size, chunkSize: CHUNK, primaryId: PRIMARY };
  const hosts = await Promise.all(
    [1, 2].map(async () =>
      RemoteWriteOnceDevice.of(
        await openNbdExport({
          address: served.address,
          timer: systemTimer,
          export: 'disk',
          contexts: ['base:allocation', ...remoteContexts(shape)],
        }),
        shape,
      ),
    ),
  );
  const [first, second] = hosts;
  if (!first || !second) throw new Error('two hosts are needed');
  const writes = await Promise.all(hosts.map((host) => host.begin(1)));
  for (const [index, write] of writes.entries()) {
    if (write === 'written') throw new Error('nobody has written yet');
    await write.place.file.write(filled(CHUNK, 1, index), 0);
    expect(await write.seal()).toBe(index === 0 ? 'written' : 'lost');
  }
  expectChunk(await readChunk(second, 1), filled(CHUNK, 1, 0));
  expect(await second.begin(1)).toBe('written');
  for (const host of hosts) await host.close();
});

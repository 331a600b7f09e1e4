/**
 * Every command and every error of the transmission phase, asked by libnbd with its own checks off, with structured and
 * with simple replies.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { FailingDevice, failing } from '../support/nbd-devices.js';
import {
  closeReason,
  lastId,
  MiB,
  nbdsh,
  RawClient,
  request,
  type Served,
  serve,
} from '../support/nbd-kit.js';
import { lacking } from '../support/requires.js';

const SIZE = 64 * MiB;
const lacks = lacking('nbdsh');

let served: Served;
let memory: MemoryDevice;
let fallible: FailingDevice;
let slowZero: FailingDevice;
beforeAll(async () => {
  memory = new MemoryDevice(SIZE);
  const blocks = new MemoryDevice(8 * MiB, { blockSize: 4096 });
  fallible = new FailingDevice(new MemoryDevice(SIZE), { trim: false, fastZero: false, extents: false });
  slowZero = new FailingDevice(new MemoryDevice(8 * MiB));
  served = await serve({
    exports: [
      { name: 'disk', device: memory, readOnly: false },
      { name: 'read-only', device: memory, readOnly: true },
      { name: 'blocks', device: blocks, readOnly: false },
      { name: 'fallible', device: fallible, readOnly: false },
      { name: 'slow-zero', device: slowZero, readOnly: false },
    ],
  });
});
beforeEach(() => {
  fallible.failure = () => undefined;
});
afterAll(() => served.close());

const KINDS = [
  { kind: 'structured replies', setting: 'h.set_request_structured_replies(True)' },
  { kind: 'simple replies', setting: 'h.set_request_structured_replies(False)' },
];

describe.skipIf(lacks).each(KINDS)(`commands, with $kind${lacks}`, ({ setting }) => {
  /** A script with `h`, connected; `tried(f, …)` says by what number it failed. */
  function on(name: string, script: string): Promise<string[]> {
    return nbdsh(`
${setting}
h.add_meta_context("base:allocation")
h.set_strict_mode(0)
h.connect_uri("${served.uri(name)}")
def tried(f, *args, **named):
    try: f(*args, **named); return "ok"
    except nbd.Error as e: return e.errno
${script}`).then((said) => said.trim().split('\n'));
  }

  it('READ and WRITE: any range, long ones too', async () => {
    const said = await on(
      'disk',
      `
import random
r = random.Random(7)
model = bytearray(${SIZE})
h.zero(${SIZE}, 0)
for length in (1, 511, 4096, 65537, 262144, 300001, 1 << 20, (1 << 20) + 1, 5000001, 32 << 20):
    data = r.randbytes(length)
    at = r.randrange(0, ${SIZE} - length)
    model[at:at + length] = data
    h.pwrite(data, at)
    at = r.randrange(0, ${SIZE} - length)
    assert h.pread(length, at) == model[at:at + length], length
for at in (0, 32 << 20): assert h.pread(32 << 20, at) == model[at:at + (32 << 20)]
print("same")`,
    );
    expect(said).toEqual(['same']);
  });

  it('many requests at once are answered in any order, each with its own data', async () => {
    const said = await on(
      'disk',
      `
import random
r = random.Random(9)
data = r.randbytes(8 << 20)
cookies = [h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data[at:at + 65536])), at) for at in range(0, 8 << 20, 65536)]
while any(not h.aio_command_completed(c) for c in cookies[-1:]): h.poll(-1)
h.flush()
parts = []
for i in range(500):
    length = r.choice((16, 512, 4096, 65536, 1 << 20))
    at = r.randrange(0, (8 << 20) - length)
    b = nbd.Buffer(length)
    parts.append((at, length, b, h.aio_pread(b, at)))
while h.aio_in_flight() > 0: h.poll(-1)
print(all(b.to_bytearray() == data[at:at + length] for at, length, b, c in parts))`,
    );
    expect(said).toEqual(['True']);
  });

  it('WRITE_ZEROES with and without NO_HOLE, FAST_ZERO and FUA; TRIM; FLUSH; CACHE', async () => {
    const flushes = memory.flushes;
    const said = await on(
      'disk',
      `
h.pwrite(b"x" * 65536, 0)
h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
h.zero(4096, 8192, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
print(set(h.pread(4096, 0)), set(h.pread(4096, 4096)), set(h.pread(4096, 8192)))
h.zero((1 << 32) % ${SIZE} + ${SIZE}, 0)
print(tried(h.trim, ${SIZE}, 0), tried(h.trim, 5, 7, nbd.CMD_FLAG_FUA), tried(h.flush), tried(h.flush, 1), tried(h.cache, ${SIZE}, 0))`,
    );
    expect(said).toEqual(['{0} {120} {0}', 'ok ok ok ok ok']);
    expect(memory.flushes).toBe(flushes + 2);
  });

  it('a range outside is EINVAL for reading and trimming, and ENOSPC for writing', async () => {
    const said = await on(
      'disk',
      `
print([tried(f, *a) for f, *a in (
  (h.pread, 2, ${SIZE} - 1), (h.pread, 1, 1 << 62), (h.trim, 2, ${SIZE} - 1), (h.cache, 2, ${SIZE} - 1),
  (h.pwrite, b"ab", ${SIZE} - 1), (h.zero, 2, ${SIZE} - 1), (h.pwrite, b"a", 1 << 62))])
print(h.pread(1, ${SIZE} - 1) is not None)`,
    );
    expect(said).toEqual(["['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'ENOSPC', 'ENOSPC', 'ENOSPC']", 'True']);
  });

  it('nothing, flags and commands nobody knows, and too much are EINVAL', async () => {
    const said = await on(
      'disk',
      `
print([tried(f, *a) for f, *a in (
  (h.pread, 0, 0), (h.pwrite, b"", 0), (h.zero, 0, 0), (h.trim, 0, 0),
  (h.pread, 1, 0, 1 << 9), (h.pwrite, b"a", 0, 1 << 9), (h.pwrite, b"a", 0, nbd.CMD_FLAG_NO_HOLE),
  (h.trim, 1, 0, nbd.CMD_FLAG_FAST_ZERO), (h.flush, nbd.CMD_FLAG_DF), (h.pread, (32 << 20) + 1, 0))])
print(tried(h.pwrite, bytes((32 << 20) + 1), 0), tried(h.pread, 1, 0))`,
    );
    expect(said).toEqual([`[${Array(10).fill("'EINVAL'").join(', ')}]`, 'EINVAL ok']);
  });

  it('changes of a read-only export are EPERM', async () => {
    const said = await on(
      'read-only',
      'print([tried(f, *a) for f, *a in ((h.pwrite, b"a" * 100000, 0), (h.zero, 1, 0), (h.trim, 1, 0), (h.flush,), (h.pread, 1, 0))])',
    );
    expect(said).toEqual(["['EPERM', 'EPERM', 'EPERM', 'ok', 'ok']"]);
  });

  it('what does not consist of whole blocks is EINVAL', async () => {
    const said = await on(
      'blocks',
      `
print([tried(f, *a) for f, *a in (
  (h.pread, 512, 0), (h.pread, 4096, 512), (h.pwrite, b"a" * 100, 0), (h.zero, 1, 0), (h.trim, 4096, 1), (h.pread, 8192, 4096))])`,
    );
    expect(said).toEqual(["['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'ok']"]);
  });

  it('what was not offered is EINVAL', async () => {
    const said = await on(
      'fallible',
      'print(h.can_trim(), h.can_fast_zero(), [tried(f, *a) for f, *a in ((h.trim, 1, 0), (h.zero, 1, 0, nbd.CMD_FLAG_FAST_ZERO), (h.zero, 1, 0))])',
    );
    expect(said).toEqual(["False False ['EINVAL', 'EINVAL', 'ok']"]);
  });

  it('FAST_ZERO that is not fast is ENOTSUP, and nothing is changed', async () => {
    slowZero.failure = (what) => (what === 'zero' ? failing('UNSUPPORTED') : undefined);
    const said = await on(
      'slow-zero',
      'h.pwrite(b"x", 0)\nprint(h.can_fast_zero(), tried(h.zero, 1, 0, nbd.CMD_FLAG_FAST_ZERO), h.pread(1, 0))',
    );
    expect(said).toEqual(["True ENOTSUP bytearray(b'x')"]);
  });

  it.each([
    ['IO_FAILED', 'EIO'],
    ['IMAGE_CORRUPT', 'EIO'],
    ['NO_SPACE', 'ENOSPC'],
    ['UNWRITTEN', 'ENOTSUP'],
    ['ALREADY_WRITTEN', 'EPERM'],
  ] as const)('%s of the device is %s, and the connection goes on', async (code, number) => {
    fallible.failure = (_, end) => (end > 1 * MiB ? failing(code) : undefined);
    const said = await on(
      'fallible',
      `
print([tried(f, *a) for f, *a in (
  (h.pread, 1, 1 << 20), (h.pread, 8 << 20, 0), (h.pwrite, b"a", 1 << 20), (h.pwrite, bytes(8 << 20), 0), (h.zero, 1, 1 << 20),
  (h.pread, 1, 0))])`,
    );
    expect(said).toEqual([`[${Array(5).fill(`'${number}'`).join(', ')}, 'ok']`]);
  });
});

describe.skipIf(lacks)(`structured replies${lacks}`, () => {
  /** Prints `kind offset length` of every chunk of a read. */
  const CHUNKS = `
def chunks(length, at, flags=0):
    seen = []
    def one(buf, offset, status, error):
        kind = {nbd.READ_DATA: "data", nbd.READ_HOLE: "hole", nbd.READ_ERROR: "error"}[status]
        seen.append((offset, len(buf), kind))
    try: h.pread_structured(length, at, one, flags)
    except nbd.Error as e: seen.append(e.errno)
    return seen
`;

  it('zeros travel as holes, unless DF forbids it', async () => {
    const said = await nbdsh(`${CHUNKS}
h.connect_uri("${served.uri()}")
h.zero(${SIZE}, 0)
h.pwrite(b"x" * 65536, 131072)
print(chunks(262144, 0))
print(chunks(262144, 0, nbd.CMD_FLAG_DF))
print(chunks(16384, 0))
print(chunks(1 << 20, 1 << 20))
h.pwrite(b"y" * (3 << 20), 8 << 20)
print(chunks(3 << 20, 8 << 20))
print(len(chunks(3 << 20, 8 << 20, nbd.CMD_FLAG_DF)))`);
    expect(said.trim().split('\n')).toEqual([
      "[(0, 131072, 'hole'), (131072, 65536, 'data'), (196608, 65536, 'hole')]",
      "[(0, 262144, 'data')]",
      "[(0, 16384, 'hole')]",
      "[(1048576, 1048576, 'hole')]",
      "[(8388608, 1048576, 'data'), (9437184, 1048576, 'data'), (10485760, 1048576, 'data')]",
      '1',
    ]);
  });

  it('a long read that fails in its middle is told so after what was read', async () => {
    fallible.failure = (_, end) => (end > 2 * MiB ? failing('IO_FAILED') : undefined);
    const said = await nbdsh(`${CHUNKS}
h.connect_uri("${served.uri('fallible')}")
print(chunks(4 << 20, 0))
print(chunks(4096, 0))`);
    expect(said.trim().split('\n')).toEqual([
      "[(0, 1048576, 'hole'), (1048576, 1048576, 'hole'), 'EIO']",
      "[(0, 4096, 'data')]",
    ]);
  });

  it('BLOCK_STATUS: extents in order, one with REQ_ONE, EINVAL without a context', async () => {
    const said = await nbdsh(`
h.add_meta_context("base:allocation")
h.set_strict_mode(0)
h.connect_uri("${served.uri()}")
h.zero(${SIZE}, 0)
h.pwrite(b"x" * 65536, 1 << 20)
def status(length, at, flags=0):
    seen = []
    def one(context, offset, entries, error): seen.append((context, offset, entries))
    try: h.block_status(length, at, one, flags)
    except nbd.Error as e: seen.append(e.errno)
    return seen
print(status(4 << 20, 0))
print(status(4 << 20, 0, nbd.CMD_FLAG_REQ_ONE))
print(status(100, (1 << 20) + 5))
print(status(2, ${SIZE} - 1), status(0, 0))
h = nbd.NBD()
h.set_strict_mode(0)
h.connect_uri("${served.uri()}")
print(status(4096, 0))`);
    expect(said.trim().split('\n')).toEqual([
      "[('base:allocation', 0, [1048576, 3, 65536, 0, 3080192, 3])]",
      "[('base:allocation', 0, [1048576, 3])]",
      "[('base:allocation', 1048581, [100, 0])]",
      "['EINVAL'] ['EINVAL']",
      "['EINVAL']",
    ]);
  });

  it('errors name the code and nothing of the server', async () => {
    fallible.failure = () => failing('UNWRITTEN');
    const said = await nbdsh(`
h.set_debug(True)
h.set_debug_callback(lambda context, message: print(message) or 0)
h.connect_uri("${served.uri('fallible')}")
try: h.pread(1, 0)
except nbd.Error as e: pass`);
    expect(said).toContain('UNWRITTEN');
    expect(said).not.toContain('secret');
  });
});

describe('requests by hand', () => {
  it('commands nobody knows are EINVAL, and the server stays in step', async () => {
    const client = await RawClient.transmitting(served.socket);
    client.send(
      request(8, { cookie: 1, length: 5 }),
      request(0xffff, { cookie: 2 }),
      request(3, { cookie: 3 }),
    );
    expect(await client.simpleErrors(3)).toEqual([22, 22, 0]);
    client.socket.destroy();
  });

  it('DISC: what is under way is answered first', async () => {
    const client = await RawClient.transmitting(served.socket, 'fallible');
    const id = lastId(served);
    client.send(request(0, { cookie: 1, length: 100 }), request(3, { cookie: 2 }), request(2));
    client.send(request(0, { cookie: 3, length: 100 }));
    await client.closed();
    expect(client.received.length).toBe(16 + 100 + 16);
    expect(await closeReason(served, id)).toBe('client');
  });

  it.each([
    ['a request without its magic', Buffer.from('GET / HTTP/1.1\r\nHost: example.org\r\n\r\n')],
    ['a payload far too long', request(1, { length: 0xffffffff })],
  ])('%s: the connection is closed', async (_, bytes) => {
    const client = await RawClient.transmitting(served.socket);
    const id = lastId(served);
    client.send(bytes);
    await client.closed();
    expect(await closeReason(served, id)).toBe('protocol');
  });

  it('a client that leaves in the middle of a payload is lost, and nothing of its last piece is written', async () => {
    await memory.zero(0, 4 * MiB);
    const client = await RawClient.transmitting(served.socket);
    const id = lastId(served);
    client.send(request(1, { length: 1000, offset: 0 }), Buffer.alloc(999, 1));
    client.socket.end();
    await client.closed();
    expect(await closeReason(served, id)).toBe('lost');
    const shown = Buffer.alloc(1000);
    await memory.read(shown, 0);
    expect(shown.every((byte) => byte === 0)).toBe(true);
  });
});

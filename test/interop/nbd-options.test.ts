/**
 * Every option of the handshake, asked by libnbd; and what no client of good manners sends, asked by hand.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/block/memory-device.js';
import type { MetaContext } from '../../src/nbd/export-table.js';
import {
  closeReason,
  lastId,
  MiB,
  must,
  nbdsh,
  option,
  RawClient,
  type Served,
  serve,
  u32,
} from '../support/nbd-kit.js';
import { lacking } from '../support/requires.js';

const dirty: MetaContext = {
  name: 'vhdkit:dirty-monday',
  extents: async (_, length) => [{ length, flags: 1 }],
};
const lacks = lacking('nbdsh', 'nbdinfo');

let served: Served;
beforeAll(async () => {
  const device = new MemoryDevice(8 * MiB);
  const blocks = new MemoryDevice(8 * MiB, { blockSize: 4096 });
  const readOnly = new MemoryDevice(1 * MiB, { writable: false });
  served = await serve({
    exports: [
      { name: 'disk', description: 'ein Datenträger ✓', device, readOnly: false, contexts: [dirty] },
      { name: 'disk@monday/ü', device, readOnly: true },
      { name: 'blocks', device: blocks, readOnly: false },
      { name: 'fixed', device: readOnly, readOnly: false },
    ],
  });
});
afterAll(() => served.close());

/** A script with `h` in option mode. */
function haggle(script: string): Promise<string> {
  return nbdsh(`h.set_opt_mode(True)\nh.connect_unix("${served.socket}")\n${script}`);
}

describe.skipIf(lacks)(`options, asked by libnbd${lacks}`, () => {
  it('LIST: names and descriptions', async () => {
    const said = await haggle('h.opt_list(lambda n, d: print(n, "|", d))\nh.opt_abort()');
    expect(said).toBe('disk | ein Datenträger ✓\ndisk@monday/ü | \nblocks | \nfixed | \n');
  });

  it('INFO: flags, block sizes, description; and GO afterwards on the same connection', async () => {
    const said = await haggle(`
h.set_full_info(True)
h.set_export_name("disk"); h.opt_info()
print(h.get_size(), h.get_export_description(), h.get_canonical_export_name())
h.set_export_name("blocks"); h.opt_info()
print([h.get_block_size(i) for i in (0, 1, 2)])
h.set_export_name("fixed"); h.opt_go()
print(h.is_read_only(), h.can_zero(), h.can_trim(), h.can_cache(), h.can_flush(), h.can_multi_conn())`);
    expect(said.split('\n')).toEqual([
      `${8 * MiB} ein Datenträger ✓ disk`,
      `[4096, 4096, ${32 * MiB}]`,
      'True False False True True True',
      '',
    ]);
  });

  it('the empty name is the first export', async () => {
    const said = await haggle('h.set_full_info(True)\nh.opt_go()\nprint(h.get_canonical_export_name())');
    expect(said).toBe('disk\n');
  });

  it('GO and INFO of an export that is not there can be followed by another one', async () => {
    const said = await haggle(`
h.set_export_name("nothing")
for f in (h.opt_info, h.opt_go):
    try: f()
    except nbd.Error as e: print(e.errno)
h.set_export_name("disk@monday/ü"); h.opt_go(); print(h.get_size(), h.is_read_only())`);
    expect(said).toBe(`ENOENT\nENOENT\n${8 * MiB} True\n`);
  });

  it('ABORT ends the connection', async () => {
    expect(await haggle('h.opt_abort(); print(h.aio_is_closed())')).toBe('True\n');
  });

  it('EXPORT_NAME: for clients that know nothing newer', async () => {
    const said = await nbdsh(`
h.set_handshake_flags(0)
h.set_export_name("disk")
h.connect_unix("${served.socket}")
print(h.get_size(), h.get_structured_replies_negotiated(), h.can_df(), h.get_protocol())
h.pwrite(b"x" * 100, 5); print(h.pread(3, 4))`);
    // Without FIXED_NEWSTYLE the client may use no option but this one, and gets the padding.
    expect(said).toBe(`${8 * MiB} False False newstyle\nbytearray(b'\\x00xx')\n`);
  });

  it('STRUCTURED_REPLY: only if asked for', async () => {
    const script = `h.connect_uri("${served.uri()}"); print(h.get_structured_replies_negotiated(), h.can_df())`;
    expect(await nbdsh(script)).toBe('True True\n');
    expect(await nbdsh(`h.set_request_structured_replies(False)\n${script}`)).toBe('False False\n');
  });

  it('LIST_META_CONTEXT: all, by name, by namespace, by beginning', async () => {
    const said = await haggle(`
def ask(*queries):
    names = []
    h.clear_meta_contexts()
    for q in queries: h.add_meta_context(q)
    h.set_export_name("disk")
    h.opt_list_meta_context(lambda n: names.append(n))
    print(names)
ask()
ask("base:allocation")
ask("base:")
ask("vhdkit:")
ask("vhdkit:dirty-")
ask("vhdkit:dirty-monday", "base:", "x-nobody:")
ask("vhdkit:dirty", "base", "qemu:dirty-bitmap:b")`);
    expect(said.split('\n')).toEqual([
      "['base:allocation', 'vhdkit:dirty-monday']",
      "['base:allocation']",
      "['base:allocation']",
      "['vhdkit:dirty-monday']",
      "['vhdkit:dirty-monday']",
      "['base:allocation', 'vhdkit:dirty-monday']",
      '[]',
      '',
    ]);
  });

  it('SET_META_CONTEXT: what was chosen answers, what is not there does not; wildcards choose nothing', async () => {
    const said = await nbdsh(`
for q in ("base:allocation", "vhdkit:dirty-monday", "vhdkit:", "x-nobody:one"): h.add_meta_context(q)
h.connect_uri("${served.uri()}")
print([h.can_meta_context(q) for q in ("base:allocation", "vhdkit:dirty-monday", "vhdkit:", "x-nobody:one")])
h.block_status(65536, 1 << 20, lambda context, offset, entries, error: print(context, offset, entries))`);
    expect(said.split('\n')).toEqual([
      '[True, True, False, False]',
      'base:allocation 1048576 [65536, 3]',
      'vhdkit:dirty-monday 1048576 [65536, 1]',
      '',
    ]);
  });

  it('nbdinfo describes every export', async () => {
    const { stdout } = await must('nbdinfo', ['--list', '--json', `nbd+unix://?socket=${served.socket}`]);
    const told = JSON.parse(stdout) as { exports: Record<string, unknown>[] };
    expect(told.exports.map((one) => one['export-name'])).toEqual([
      'disk',
      'disk@monday/ü',
      'blocks',
      'fixed',
    ]);
    expect(told.exports[0]).toMatchObject({
      'export-size': 8 * MiB,
      description: 'ein Datenträger ✓',
      is_read_only: false,
      can_multi_conn: true,
      can_fast_zero: true,
      can_df: true,
      can_fua: true,
    });
  });
});

const NAME = Buffer.from('disk');
const named = Buffer.concat([u32(NAME.length), NAME]);
const STRUCTURED = option(8);

/** Type and text of the next reply to an option. */
async function replyOf(client: RawClient): Promise<{ option: number; type: number; data: Buffer }> {
  const header = await client.take(20);
  expect(header.subarray(0, 8).toString('hex')).toBe('0003e889045565a9');
  const data = await client.take(header.readUInt32BE(16));
  return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
}

const ACK = 1;
const UNSUP = 0x80000001;
const POLICY = 0x80000002;
const INVALID = 0x80000003;
const UNKNOWN = 0x80000006;
const TOO_BIG = 0x80000009;

describe('options, asked by hand', () => {
  const cases: [string, Buffer, number][] = [
    ['an option nobody knows', option(77, Buffer.from('data')), UNSUP],
    ['PEEK_EXPORT, which was given up', option(4), UNSUP],
    ['EXTENDED_HEADERS', option(11), UNSUP],
    ['LIST with data', option(3, NAME), INVALID],
    ['STRUCTURED_REPLY with data', option(8, NAME), INVALID],
    ['STARTTLS with data', option(5, NAME), INVALID],
    ['STARTTLS where there is no certificate', option(5), POLICY],
    ['INFO without data', option(6), INVALID],
    ['INFO whose name is longer than its data', option(6, Buffer.concat([u32(400), NAME])), INVALID],
    ['INFO with a count that is too high', option(6, Buffer.concat([named, Buffer.from([0, 9])])), INVALID],
    ['INFO with bytes too many', option(6, Buffer.concat([named, Buffer.from([0, 0, 0])])), INVALID],
    ['a name that is no text', option(6, Buffer.from([0, 0, 0, 1, 0xff, 0, 0])), INVALID],
    ['a name with a NUL', option(6, Buffer.from([0, 0, 0, 1, 0, 0, 0])), INVALID],
    ['a name that is too long', option(6, Buffer.concat([u32(5000), Buffer.alloc(5002, 97)])), INVALID],
    ['an export nobody knows', option(6, Buffer.from([0, 0, 0, 1, 97, 0, 0])), UNKNOWN],
    ['LIST_META_CONTEXT before structured replies', option(9, Buffer.concat([named, u32(0)])), INVALID],
    ['data that is too long', option(6, Buffer.alloc(70_000)), TOO_BIG],
  ];
  it.each(cases)('%s is refused, and the server stays in step', async (_, bytes, type) => {
    const client = await RawClient.greeted(served.socket);
    client.send(bytes, STRUCTURED);
    expect((await replyOf(client)).type).toBe(type);
    expect(await replyOf(client)).toMatchObject({ option: 8, type: ACK });
    client.socket.destroy();
  });

  it.each([
    ['a count of queries that nothing follows', Buffer.concat([named, u32(0xffffffff)]), INVALID],
    ['a query that is longer than the data', Buffer.concat([named, u32(1, 99)]), INVALID],
    ['bytes too many', Buffer.concat([named, u32(0, 0)]), INVALID],
    ['an export nobody knows', Buffer.concat([u32(1), Buffer.from('x'), u32(0)]), UNKNOWN],
  ])('SET_META_CONTEXT with %s is refused', async (_, data, type) => {
    const client = await RawClient.greeted(served.socket);
    client.send(STRUCTURED, option(10, data));
    expect((await replyOf(client)).type).toBe(ACK);
    expect((await replyOf(client)).type).toBe(type);
    client.socket.destroy();
  });

  it('all options in one packet, byte by byte as well, are answered in order', async () => {
    const all = Buffer.concat([
      STRUCTURED,
      option(3),
      option(6, Buffer.concat([named, Buffer.from([0, 0])])),
    ]);
    const whole = await RawClient.greeted(served.socket);
    whole.send(all, option(2));
    await whole.closed();
    const slow = await RawClient.greeted(served.socket);
    for (const byte of all) {
      slow.send(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    slow.send(option(2));
    await slow.closed();
    expect(slow.received.equals(whole.received)).toBe(true);
    expect(whole.received.length).toBeGreaterThan(200);
  });

  it.each<[string, Buffer[]]>([
    ['client flags nobody knows', [u32(0x80)]],
    ['an option without its magic', [u32(3), Buffer.from('I WANT TO READ A DISK')]],
    ['EXPORT_NAME of an export that is not there', [u32(3), option(1, Buffer.from('nothing'))]],
    ['EXPORT_NAME that is too long', [u32(3), Buffer.from('IHAVEOPT'), u32(1, 1 << 20)]],
    ['options without end', [u32(3), ...Array.from({ length: 1001 }, () => STRUCTURED)]],
  ])('%s: the connection is closed', async (_, bytes) => {
    const client = await RawClient.connect(served.socket);
    await client.take(18);
    const id = lastId(served);
    client.send(...bytes);
    await client.closed();
    expect(await closeReason(served, id)).toBe('protocol');
  });
});

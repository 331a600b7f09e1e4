/** Lists beside tokens: found by their hash, refused when they are not what the token says. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import type { AuxiliaryFields } from '../../../../src/offload/auxiliary/auxiliary-codec.js';
import { listOf, SumsFile, SumsFileWriter } from '../../../../src/offload/auxiliary/sums-file.js';
import { sha256 } from '../../../support/auxiliary-kit.js';
import { seededBytes } from '../../../support/sample-disk.js';

const CHUNK = 64 * 1024;

function fieldsFor(list: Uint8Array): AuxiliaryFields {
  return {
    kind: 'checksum',
    length: (list.length / 4) * CHUNK,
    blockSize: CHUNK,
    phase: 0,
    primary: new Uint8Array(32),
    primaryId: new Uint8Array(8),
    listDigest: sha256(list),
    list: undefined,
    place: undefined,
  };
}

/** A file with lists of so many checksums, written a few at a time. */
async function fileWith(lists: readonly Uint8Array[]): Promise<MemoryFile> {
  const file = new MemoryFile(new Uint8Array(0), 't.tok.sums');
  const writer = new SumsFileWriter(file, lists.length);
  for (const list of lists) {
    const { sink, close } = writer.begin(list.length);
    for (let at = 0; at < list.length; at += 4) {
      sink.add(list.subarray(at, at + 4));
      if (at % 4096 === 0) await sink.drain();
    }
    const { listDigest, list: inline } = await close();
    expect(Buffer.from(listDigest)).toEqual(sha256(list));
    expect(inline).toBeUndefined();
  }
  await writer.finish();
  return file;
}

const lists = [seededBytes(400, 1), seededBytes(100_000, 2), seededBytes(4096, 3)];
const malformed = { code: 'TOKEN_INVALID', context: { reason: 'malformed' } };

describe('sums beside tokens', () => {
  it('gives back every list, in parts', async () => {
    const sums = await SumsFile.open(await fileWith(lists));
    for (const list of lists) {
      const found = await sums.list(fieldsFor(list));
      const count = list.length / 4;
      expect(Buffer.from(await found.read(0, count)).equals(list)).toBe(true);
      expect(Buffer.from(await found.read(7, 90)).equals(list.subarray(28, 360))).toBe(true);
    }
  });

  it('refuses a list that was exchanged, or is of another token', async () => {
    const sums = await SumsFile.open(await fileWith(lists));
    const other = fieldsFor(seededBytes(400, 9));
    await expect(sums.list(other)).rejects.toMatchObject(malformed);
    const longer = { ...fieldsFor(lists[0] as Uint8Array), length: 200 * CHUNK };
    await expect(sums.list(longer)).rejects.toMatchObject(malformed);
    await expect(listOf(fieldsFor(lists[0] as Uint8Array), undefined, 'x')).rejects.toMatchObject(malformed);
  });

  it('never answers with anything but the list, whatever byte is damaged or cut off', async () => {
    const [list = new Uint8Array(0)] = lists;
    const whole = (await fileWith([list])).bytes();
    const damage = fc.oneof(
      fc.record({ at: fc.nat(whole.length - 1), bit: fc.nat(7) }),
      fc.record({ cut: fc.nat(whole.length - 1) }),
    );
    await fc.assert(
      fc.asyncProperty(damage, async (what) => {
        const bytes = 'cut' in what ? whole.slice(0, what.cut) : whole.slice();
        if ('at' in what) bytes[what.at] = (bytes[what.at] ?? 0) ^ (1 << what.bit);
        const read = async () =>
          (await (await SumsFile.open(new MemoryFile(bytes))).list(fieldsFor(list))).read(0, 100);
        await expect(read()).rejects.toMatchObject(malformed);
      }),
      { endOnFailure: true },
    );
  });

  it('refuses made-up tables before anything is made of them', async () => {
    const head = fc.record({ count: fc.nat(0xffffffff), rest: fc.uint8Array({ maxLength: 200 }) });
    await fc.assert(
      fc.asyncProperty(head, async ({ count, rest }) => {
        const bytes = Buffer.alloc(16 + rest.length);
        bytes.write('vhdksums');
        bytes.writeUInt32LE(1, 8);
        bytes.writeUInt32LE(count, 12);
        bytes.set(rest, 16);
        const open = async () =>
          (await SumsFile.open(new MemoryFile(bytes))).list(fieldsFor(lists[0] as Uint8Array));
        await expect(open()).rejects.toMatchObject(malformed);
      }),
      { endOnFailure: true },
    );
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GiB, MiB, TiB } from '../../../../src/base/bytes.js';
import { crc32c } from '../../../../src/base/crc32c.js';
import { guidToMixedEndian, NIL_GUID } from '../../../../src/base/guid.js';
import {
  batGeometry,
  bitmapIndex,
  decodeEntry,
  encodeEntry,
  MAX_OFFSET_MIB,
  neededEntries,
  payloadIndex,
} from '../../../../src/formats/vhdx/bat.js';
import { checksumWithout, sealChecksum } from '../../../../src/formats/vhdx/binary.js';
import { VHDX_DEFECTS } from '../../../../src/formats/vhdx/defects.js';
import { isVhdx } from '../../../../src/formats/vhdx/driver.js';
import {
  decodeCreator,
  decodeHeader,
  encodeHeader,
  encodeIdentifier,
  type VhdxHeader,
} from '../../../../src/formats/vhdx/header.js';
import { ITEM_GUID, REGION_GUID } from '../../../../src/formats/vhdx/layout.js';
import { decodeMetadataTable, encodeMetadata } from '../../../../src/formats/vhdx/metadata-table.js';
import {
  decodeParentLocator,
  encodeParentLocator,
  parentLinkOf,
} from '../../../../src/formats/vhdx/parent-locator.js';
import { decodeRegionTable, encodeRegionTable } from '../../../../src/formats/vhdx/region-table.js';
import { bitAt, endOfRun, setBits } from '../../../../src/formats/vhdx/sector-bitmap.js';

const guid = fc.uuid();
const header: fc.Arbitrary<VhdxHeader> = fc.record({
  sequence: fc.bigInt(0n, 2n ** 64n - 1n),
  fileWriteGuid: guid,
  dataWriteGuid: guid,
  logGuid: fc.oneof(guid, fc.constant(NIL_GUID)),
  logVersion: fc.nat(0xffff),
  version: fc.nat(0xffff),
  logLength: fc.nat(0xffffffff),
  logOffset: fc.bigInt(0n, 2n ** 64n - 1n),
});

describe('checksum', () => {
  it('agrees with the published vectors', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(4096))).toBe(0x98f94189);
  });

  it('counts the checksum field as zero and leaves the bytes alone', () => {
    const bytes = new Uint8Array(4096).fill(0xff, 4, 8);
    expect(checksumWithout(bytes, 4)).toBe(0x98f94189);
    expect(bytes[4]).toBe(0xff);
    expect(Buffer.from(sealChecksum(bytes, 4)).readUInt32LE(4)).toBe(0x98f94189);
  });
});

describe('header', () => {
  it('survives encoding and decoding', () => {
    fc.assert(
      fc.property(header, (value) => {
        expect(decodeHeader(encodeHeader(value))).toEqual(value);
      }),
    );
  });

  it('is refused after any changed bit', () => {
    fc.assert(
      fc.property(header, fc.nat(4096 * 8 - 1), (value, bit) => {
        const bytes = encodeHeader(value);
        bytes[bit >>> 3] = (bytes[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
        expect(decodeHeader(bytes)).toBeUndefined();
      }),
    );
  });

  it('has its fields where the specification puts them', () => {
    const bytes = Buffer.from(
      encodeHeader({
        sequence: 0x0102030405060708n,
        fileWriteGuid: '00112233-4455-6677-8899-aabbccddeeff',
        dataWriteGuid: NIL_GUID,
        logGuid: NIL_GUID,
        logVersion: 0,
        version: 1,
        logLength: MiB,
        logOffset: BigInt(MiB),
      }),
    );
    expect(bytes.toString('latin1', 0, 4)).toBe('head');
    expect(bytes.toString('hex', 8, 16)).toBe('0807060504030201');
    expect(bytes.toString('hex', 16, 32)).toBe('33221100554477668899aabbccddeeff');
    expect([bytes.readUInt16LE(66), bytes.readUInt32LE(68), bytes.readBigUInt64LE(72)]).toEqual([
      1,
      MiB,
      BigInt(MiB),
    ]);
  });
});

describe('identifier', () => {
  it('keeps the creator, without what follows a NUL and without control characters', () => {
    expect(decodeCreator(encodeIdentifier('vhdkit'))).toBe('vhdkit');
    expect(decodeCreator(encodeIdentifier('a\u001b[31m\0junk'))).toBe('a[31m');
    expect(decodeCreator(encodeIdentifier('x'.repeat(1000)))).toBe('x'.repeat(256));
  });

  it('is recognised by its first eight bytes only', () => {
    expect(isVhdx(encodeIdentifier(''))).toBe(true);
    expect(isVhdx(Buffer.from('vhdxfil'))).toBe(false);
    expect(isVhdx(Buffer.from('vhdxfilE'))).toBe(false);
  });
});

describe('GUIDs on disk', () => {
  it.each([
    [REGION_GUID.bat, '6677c22d23f600429d64115e9bfd4a08'],
    [REGION_GUID.metadata, '06a27c8b90479a4bb8fe575f050f886e'],
    [ITEM_GUID.fileParameters, '3767a1ca36fa434db3b633f0aa44e76b'],
    [ITEM_GUID.virtualDiskSize, '2442a52f1bcd7648b2115dbed83bf4b8'],
    [ITEM_GUID.virtualDiskId, 'ab12cabee6b2234593efc309e000c746'],
    [ITEM_GUID.logicalSectorSize, '1dbf41816fa90947ba47f233a8faab5f'],
    [ITEM_GUID.physicalSectorSize, 'c748a3cd5d4471449cc9e9885251c556'],
    [ITEM_GUID.parentLocator, '2d5fd3a80bb34d45abf7d3d84834ab0c'],
  ])('%s is stored as %s', (text, bytes) => {
    expect(Buffer.from(guidToMixedEndian(text)).toString('hex')).toBe(bytes);
  });
});

describe('region table', () => {
  const entry = fc.record({
    guid,
    offset: fc.nat(2 ** 30),
    length: fc.nat(0xffffffff),
    required: fc.boolean(),
  });

  it('survives encoding and decoding', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
        expect(decodeRegionTable(encodeRegionTable(entries))).toEqual(entries);
      }),
    );
  });

  it('refuses too many entries, even with a right checksum', () => {
    const bytes = encodeRegionTable([]);
    new DataView(bytes.buffer).setUint32(8, 2048, true);
    expect(decodeRegionTable(sealChecksum(bytes, 4))).toBeUndefined();
    new DataView(bytes.buffer).setUint32(8, 2047, true);
    expect(decodeRegionTable(sealChecksum(bytes, 4))).toHaveLength(2047);
  });
});

describe('metadata table', () => {
  it('gives back the items that were put in', () => {
    const items = [
      {
        guid: ITEM_GUID.fileParameters,
        bytes: Uint8Array.of(1, 2, 3),
        isVirtualDisk: false,
        isRequired: true,
      },
      { guid: ITEM_GUID.virtualDiskId, bytes: new Uint8Array(0), isVirtualDisk: true, isRequired: false },
      {
        guid: ITEM_GUID.virtualDiskSize,
        bytes: Uint8Array.of(9),
        isUser: true,
        isVirtualDisk: true,
        isRequired: true,
      },
    ];
    const bytes = encodeMetadata(items);
    const region = { name: 'metadata', offset: MiB, length: MiB };
    const entries = decodeMetadataTable(bytes.subarray(0, 65536), region, 'x');
    expect(entries).toMatchObject([
      {
        guid: items[0]?.guid,
        offset: 65536,
        length: 3,
        isUser: false,
        isVirtualDisk: false,
        isRequired: true,
      },
      { guid: items[1]?.guid, offset: 0, length: 0, isVirtualDisk: true, isRequired: false },
      { guid: items[2]?.guid, offset: 65544, length: 1, isUser: true, isVirtualDisk: true, isRequired: true },
    ]);
    expect(bytes.slice(65536, 65539)).toEqual(Uint8Array.of(1, 2, 3));
  });
});

describe('parent locator', () => {
  it('survives encoding and decoding', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(text, text), { selector: ([key]) => key, maxLength: 20 }),
        (pairs) => {
          const map = new Map(pairs);
          expect(decodeParentLocator(encodeParentLocator(map), 0, 'x')).toEqual(map);
        },
      ),
    );
  });

  it('orders the paths and drops a zero second linkage', () => {
    const link = parentLinkOf(
      new Map([
        ['absolute_win32_path', 'C:\\p.vhdx'],
        ['parent_linkage2', `{${NIL_GUID}}`],
        ['volume_path', '\\\\?\\Volume{1}\\p.vhdx'],
        ['relative_path', '.\\p.vhdx'],
        ['parent_linkage', '{AB12CABE-E6B2-2345-93EF-C309E000C746}'],
      ]),
      0,
      'x',
    );
    expect(link.acceptedIds).toEqual(['ab12cabe-e6b2-2345-93ef-c309e000c746']);
    expect(link.candidates.map(({ source }) => source)).toEqual([
      'relative_path',
      'volume_path',
      'absolute_win32_path',
    ]);
  });

  it('accepts a second linkage that is not zero', () => {
    const second = 'ab12cabe-e6b2-2345-93ef-c309e000c747';
    const link = parentLinkOf(
      new Map([
        ['parent_linkage', 'ab12cabe-e6b2-2345-93ef-c309e000c746'],
        ['parent_linkage2', `{${second.toUpperCase()}}`],
      ]),
      0,
      'x',
    );
    expect(link.acceptedIds).toEqual(['ab12cabe-e6b2-2345-93ef-c309e000c746', second]);
  });
});

describe('block allocation table', () => {
  it('survives encoding and decoding, up to 2^44 − 1 MiB', () => {
    const view = new DataView(new ArrayBuffer(8));
    fc.assert(
      fc.property(
        fc.nat(7),
        fc.maxSafeInteger().map((n) => Math.abs(n) % (MAX_OFFSET_MIB + 1)),
        (state, offsetMiB) => {
          encodeEntry(view, 0, state, offsetMiB);
          expect(view.getBigUint64(0, true)).toBe((BigInt(offsetMiB) << 20n) | BigInt(state));
          expect(decodeEntry(view.getUint32(0, true), view.getUint32(4, true))).toEqual({
            state,
            offsetMiB,
            reservedBits: false,
          });
        },
      ),
    );
  });

  it('sees each reserved bit', () => {
    for (let bit = 3; bit < 20; bit += 1) expect(decodeEntry(1 << bit, 0).reservedBits).toBe(true);
    for (const low of [7, 1 << 20, 0x80000000]) expect(decodeEntry(low >>> 0, 0).reservedBits).toBe(false);
  });

  it.each([
    [127 * GiB, 32 * MiB, 512, 128, 4064, 4095, 4128],
    [127 * GiB, 2 * MiB, 512, 2048, 65024, 65055, 65568],
    [128 * GiB, 32 * MiB, 512, 128, 4096, 4127, 4128],
    [4 * GiB, MiB, 512, 4096, 4096, 4096, 4097],
    [GiB, MiB, 4096, 32768, 1024, 1024, 32769],
    [64 * TiB, MiB, 512, 4096, 67108864, 67125247, 67125248],
    [64 * TiB, 256 * MiB, 4096, 128, 262144, 264191, 264192],
  ])(
    '%d bytes in blocks of %d, sectors of %d',
    (size, block, sector, ratio, blocks, dynamic, differencing) => {
      const geometry = batGeometry(size, block, sector);
      expect([geometry.chunkRatio, geometry.blocks]).toEqual([ratio, blocks]);
      expect(neededEntries(geometry, false)).toBe(dynamic);
      expect(neededEntries(geometry, true)).toBe(differencing);
      expect(payloadIndex(geometry, blocks - 1)).toBe(dynamic - 1);
      expect(bitmapIndex(geometry, geometry.chunks - 1)).toBe(differencing - 1);
    },
  );

  it('puts the bitmap entry behind each chunk', () => {
    const geometry = batGeometry(16 * GiB, 256 * MiB, 512);
    expect(geometry.chunkRatio).toBe(16);
    expect([0, 15, 16, 31, 32].map((block) => payloadIndex(geometry, block))).toEqual([0, 15, 17, 32, 34]);
    expect([0, 1, 2].map((chunk) => bitmapIndex(geometry, chunk))).toEqual([16, 33, 50]);
  });
});

describe('sector bitmap', () => {
  it('counts bits from the least significant one', () => {
    const bytes = new Uint8Array(8);
    setBits(bytes, 3, 4);
    expect(bytes[0]).toBe(8);
    expect(bitAt(new DataView(bytes.buffer), 3)).toBe(true);
  });

  it('finds the same runs as a look at every bit', () => {
    const runs = fc.array(fc.tuple(fc.nat(511), fc.integer({ min: 1, max: 200 })), { maxLength: 8 });
    fc.assert(
      fc.property(runs, fc.nat(511), fc.nat(511), (set, a, b) => {
        const bytes = new Uint8Array(64);
        for (const [from, length] of set) setBits(bytes, from, Math.min(512, from + length));
        const view = new DataView(bytes.buffer);
        const from = Math.min(a, b);
        const to = Math.max(a, b) + 1;
        let expected = from;
        while (expected < to && bitAt(view, expected) === bitAt(view, from)) expected += 1;
        expect(endOfRun(view, from, to)).toBe(expected);
      }),
    );
  });
});

describe('defect codes', () => {
  it('all begin with the name of the format', () => {
    expect(Object.keys(VHDX_DEFECTS).filter((code) => !/^VHDX_[A-Z_]+$/.test(code))).toEqual([]);
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { vhdChecksum } from '../../../../src/formats/vhd/checksum.js';
import {
  decodeFooter,
  encodeFooter,
  footerChecksumOk,
  judgeFooter,
  NO_OFFSET,
  type VhdFooter,
} from '../../../../src/formats/vhd/footer.js';
import { vhdFooter } from '../../../support/vhd-differencing.js';

const FOOTER: VhdFooter = {
  features: 2,
  version: 0x00010000,
  dataOffset: 512n,
  timestamp: 0x2695b89e,
  creatorApplication: 'win ',
  creatorVersion: 0x000a0000,
  creatorHost: 0x5769326b,
  originalSize: 0x2800000n,
  currentSize: 0x2800000n,
  geometry: { cylinders: 0x3c3, heads: 5, sectorsPerTrack: 17 },
  diskType: 4,
  uniqueId: Uint8Array.from(Buffer.from('41306552577d8f4797716af2bac3499b', 'hex')),
  savedState: 0,
};

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const anyFooter: fc.Arbitrary<VhdFooter> = fc.record({
  features: u32,
  version: u32,
  dataOffset: fc.bigInt({ min: 0n, max: NO_OFFSET }),
  timestamp: u32,
  creatorApplication: fc.string({ unit: 'binary-ascii', minLength: 4, maxLength: 4 }),
  creatorVersion: u32,
  creatorHost: u32,
  originalSize: fc.bigInt({ min: 0n, max: NO_OFFSET }),
  currentSize: fc.bigInt({ min: 0n, max: NO_OFFSET }),
  geometry: fc.record({
    cylinders: fc.integer({ min: 0, max: 0xffff }),
    heads: fc.integer({ min: 0, max: 0xff }),
    sectorsPerTrack: fc.integer({ min: 0, max: 0xff }),
  }),
  diskType: u32,
  uniqueId: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  savedState: fc.integer({ min: 0, max: 255 }),
});

describe('VHD footer', () => {
  it('writes the bytes that Windows 8 wrote', () => {
    const hex = Buffer.from(encodeFooter(FOOTER)).toString('hex');
    expect(hex.slice(0, 170)).toBe(
      '636f6e6563746978' +
        '00000002' +
        '00010000' +
        '0000000000000200' +
        '2695b89e' +
        '77696e20' +
        '000a0000' +
        '5769326b' +
        '0000000002800000' +
        '0000000002800000' +
        '03c30511' +
        '00000004' +
        'ffffee3c' +
        '41306552577d8f4797716af2bac3499b' +
        '00',
    );
    expect(hex.slice(170)).toBe('00'.repeat(427));
  });

  it('survives encoding and decoding', () => {
    fc.assert(
      fc.property(anyFooter, (footer) => {
        const bytes = encodeFooter(footer);
        expect(bytes.length).toBe(512);
        expect(footerChecksumOk(bytes)).toBe(true);
        expect(decodeFooter(bytes)).toEqual(footer);
      }),
    );
  });

  it('agrees with a footer written without the codec', () => {
    const footer = decodeFooter(vhdFooter({ size: 123 * 512, uniqueId: FOOTER.uniqueId, type: 2 }));
    expect(footer).toMatchObject({ currentSize: 62976n, diskType: 2, dataOffset: NO_OFFSET });
  });

  it('notices any changed byte, except the hidden flag', () => {
    const good = encodeFooter(FOOTER);
    for (let at = 0; at < 512; at += 1) {
      const bytes = Uint8Array.from(good);
      bytes[at] = ((bytes[at] ?? 0) + 1) & 0xff;
      expect(footerChecksumOk(bytes), `byte ${at}`).toBe(at === 85);
    }
  });

  it('counts reserved bytes and does not change the buffer it verifies', () => {
    const bytes = encodeFooter(FOOTER);
    bytes.set(Buffer.from('SIMH drive type'), 96);
    expect(footerChecksumOk(bytes)).toBe(false);
    new DataView(bytes.buffer).setUint32(64, vhdChecksum(bytes, 64));
    const before = Buffer.from(bytes).toString('hex');
    expect(footerChecksumOk(bytes)).toBe(true);
    expect(Buffer.from(bytes).toString('hex')).toBe(before);
  });

  it('ignores a hidden flag that was set without a new checksum, and accepts one with it', () => {
    const bytes = encodeFooter(FOOTER);
    bytes[85] = 1;
    expect(footerChecksumOk(bytes)).toBe(true);
    new DataView(bytes.buffer).setUint32(64, vhdChecksum(bytes, 64));
    expect(footerChecksumOk(bytes)).toBe(true);
  });

  it.each([
    ['another major version', { version: 0x00020000 }, 'UNSUPPORTED', 'VHD_FOOTER_VERSION', 12],
    ['type 0', { diskType: 0 }, 'UNSUPPORTED', 'VHD_TYPE_UNSUPPORTED', 60],
    ['type 1', { diskType: 1 }, 'UNSUPPORTED', 'VHD_TYPE_UNSUPPORTED', 60],
    ['type 5', { diskType: 5 }, 'UNSUPPORTED', 'VHD_TYPE_UNSUPPORTED', 60],
    ['type 6', { diskType: 6 }, 'UNSUPPORTED', 'VHD_TYPE_UNSUPPORTED', 60],
    ['type 7', { diskType: 7 }, 'IMAGE_CORRUPT', 'VHD_TYPE_INVALID', 60],
    ['no size', { currentSize: 0n }, 'IMAGE_CORRUPT', 'VHD_SIZE_INVALID', 48],
    ['a size beyond 64 TiB', { currentSize: 2n ** 46n + 1n }, 'IMAGE_CORRUPT', 'VHD_SIZE_INVALID', 48],
  ])('judges %s', (_name, change, code, defect, field) => {
    expect(judgeFooter({ ...FOOTER, ...change })).toMatchObject({ code, defect, field });
  });

  it('has nothing against good ones, and looks at the current size only', () => {
    expect(judgeFooter(FOOTER)).toBeUndefined();
    expect(judgeFooter({ ...FOOTER, originalSize: NO_OFFSET, currentSize: 2n ** 46n })).toBeUndefined();
  });
});

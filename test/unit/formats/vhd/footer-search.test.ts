import { describe, expect, it } from 'vitest';
import { probeVhd } from '../../../../src/formats/vhd/probe.js';
import {
  AT,
  CHILD_ID,
  contentOf,
  editFooters,
  openBytes,
  sealFooter,
  smallChild,
  smallContent,
  smallDynamic,
  smallFixed,
} from './images.js';

const HEAD = 128 * 1024;

function probe(bytes: Buffer) {
  return probeVhd(bytes.subarray(0, HEAD), bytes.subarray(Math.max(0, bytes.length - 1024)), bytes.length);
}

async function codesOf(bytes: Buffer): Promise<string[]> {
  return (await openBytes(bytes)).warnings.map(({ code }) => code);
}

/** The footer's last byte cut off, as programs before Virtual PC 2004 wrote it. */
function legacy(bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.length - 1);
}

describe('finding the footer', () => {
  it('reads all three types and probes them', async () => {
    const dynamic = await smallDynamic();
    const fixed = await smallFixed();
    expect(probe(dynamic)).toEqual({ type: 'dynamic', where: 'end', checksumOk: true });
    expect(probe(fixed)).toEqual({ type: 'fixed', where: 'end', checksumOk: true });
    expect(probe(smallChild())).toEqual({ type: 'differencing', where: 'end', checksumOk: true });
    for (const bytes of [dynamic, fixed]) {
      expect(await codesOf(bytes)).toEqual([]);
      expect((await contentOf(await openBytes(bytes))).equals(smallContent())).toBe(true);
    }
  });

  it('accepts 511-byte footers', async () => {
    for (const bytes of [legacy(await smallDynamic()), legacy(await smallFixed())]) {
      expect(probe(bytes)).toMatchObject({ where: 'end511', checksumOk: true });
      expect(await codesOf(bytes)).toEqual(['VHD_FOOTER_LEGACY']);
      expect((await contentOf(await openBytes(bytes))).equals(smallContent())).toBe(true);
    }
  });

  it('takes the missing byte of a 511-byte footer for zero', async () => {
    const bytes = await smallFixed();
    bytes[bytes.length - 1] = 7;
    sealFooter(bytes, bytes.length - 512);
    expect(await codesOf(legacy(bytes))).toContain('VHD_FOOTER_CHECKSUM');
  });

  it('does not look for a 511-byte footer where the length is not that of one', async () => {
    const bytes = await smallFixed();
    const shifted = Buffer.concat([Buffer.from([1]), legacy(bytes)]);
    expect(probe(shifted)).toBeUndefined();
  });

  it.each([
    ['its cookie overwritten', (bytes: Buffer) => bytes.fill(0, AT.endFooter, AT.endFooter + 8)],
    ['a byte flipped', (bytes: Buffer) => bytes.fill(0xff, AT.endFooter + 70, AT.endFooter + 71)],
    ['its type flipped', (bytes: Buffer) => bytes.fill(0x77, AT.endFooter + 60, AT.endFooter + 64)],
    ['it cut off', (bytes: Buffer) => bytes.subarray(0, AT.endFooter)],
    ['half of it cut off', (bytes: Buffer) => bytes.subarray(0, AT.endFooter + 200)],
    ['zeros appended', (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(4096)])],
  ])('uses the copy when the footer has %s', async (_name, damage) => {
    const bytes = Buffer.from(damage(await smallDynamic()));
    expect(probe(bytes)).toEqual({ type: 'dynamic', where: 'start', checksumOk: true });
    const image = await openBytes(bytes);
    expect(image.warnings).toMatchObject([
      { code: 'VHD_FOOTER_DAMAGED', severity: 'warning', repairable: true },
    ]);
    expect((await contentOf(image)).equals(smallContent())).toBe(true);
  });

  it('warns when the copy is damaged', async () => {
    for (const damage of [0, 70]) {
      const bytes = await smallDynamic();
      bytes[damage] = (bytes[damage] ?? 0) ^ 0xff;
      const image = await openBytes(bytes);
      expect(image.warnings).toMatchObject([
        { code: 'VHD_FOOTER_COPY_DAMAGED', offset: 0, repairable: true },
      ]);
      expect((await contentOf(image)).equals(smallContent())).toBe(true);
    }
  });

  it.each([
    ['size', (footer: Buffer) => footer.writeBigUInt64BE(BigInt(2 * 16384), 48)],
    ['type', (footer: Buffer) => footer.writeUInt32BE(4, 60)],
    ['unique id', (footer: Buffer) => footer.fill(0x44, 68, 84)],
    ['data offset', (footer: Buffer) => footer.writeBigUInt64BE(4096n, 16)],
  ])('prefers the end when the copies differ in %s, and says so', async (field, edit) => {
    const bytes = await smallDynamic();
    edit(bytes.subarray(0, 512));
    sealFooter(bytes, 0);
    const image = await openBytes(bytes);
    expect(image.warnings).toMatchObject([{ code: 'VHD_FOOTER_COPIES_DIFFER', severity: 'warning' }]);
    expect(image.warnings[0]?.message).toContain(field);
    expect((await contentOf(image)).equals(smallContent())).toBe(true);
  });

  it('reads with wrong checksums everywhere, with warnings, and stays read-only', async () => {
    const bytes = await smallDynamic();
    for (const at of [64, AT.endFooter + 64, AT.headerChecksum]) bytes[at] = (bytes[at] ?? 0) ^ 1;
    const image = await openBytes(bytes);
    expect(image.warnings.map(({ code }) => code)).toEqual([
      'VHD_FOOTER_COPY_DAMAGED',
      'VHD_FOOTER_CHECKSUM',
      'VHD_HEADER_CHECKSUM',
    ]);
    expect((await contentOf(image)).equals(smallContent())).toBe(true);
    await expect(image.prepareWrite(0, 512)).rejects.toMatchObject({ code: 'READ_ONLY' });
  });

  it('does not let the guest of a fixed disk choose another footer', async () => {
    const fixed = await smallFixed();
    smallChild().copy(fixed, 0);
    expect(probe(fixed)).toMatchObject({ type: 'fixed', where: 'end' });
    expect((await openBytes(fixed)).type).toBe('fixed');
    fixed[fixed.length - 400] = 0x55;
    expect(probe(fixed)).toEqual({ type: 'fixed', where: 'end', checksumOk: false });
    const image = await openBytes(fixed);
    expect(image).toMatchObject({ type: 'fixed', parentLink: undefined });
    expect(image.warnings).toMatchObject([{ code: 'VHD_FOOTER_CHECKSUM' }]);
  });

  it('is not misled by a poisoned cookie inside a fixed disk', async () => {
    const fixed = await smallFixed();
    const poisoned = await smallDynamic();
    poisoned.write('v_poison', 0, 'latin1');
    poisoned.copy(fixed, 0);
    expect((await openBytes(fixed)).type).toBe('fixed');
  });

  it('probes nothing where there is nothing', () => {
    expect(probe(Buffer.alloc(0))).toBeUndefined();
    expect(probe(Buffer.alloc(100))).toBeUndefined();
    expect(probe(Buffer.alloc(64 * 1024, 0x5a))).toBeUndefined();
  });

  it('recognises a poisoned image, and one that lost both footers', async () => {
    const poisoned = await smallDynamic();
    poisoned.write('v_poison', AT.endFooter, 'latin1');
    expect(probe(poisoned)).toMatchObject({ type: undefined, where: 'end' });
    const bare = await smallDynamic();
    bare.fill(0, 0, 512).fill(0, AT.endFooter);
    expect(probe(bare)).toEqual({ type: undefined, where: 'start', checksumOk: false });
    bare[AT.header + 100] = 9;
    expect(probe(bare)).toBeUndefined();
  });

  it('does not take a fixed footer at the beginning for an image', async () => {
    const fixed = await smallFixed();
    const footer = fixed.subarray(fixed.length - 512);
    expect(probe(Buffer.concat([footer, Buffer.alloc(8192)]))).toBeUndefined();
  });

  it('shows ids, creator and remarks', async () => {
    const child = await openBytes(smallChild());
    expect(child.id).toBe('00010203-0405-0607-0809-0a0b0c0d0e0f');
    expect(child.linkId).toBe(child.id);
    expect(CHILD_ID.length).toBe(16);
    const odd = editFooters(await smallDynamic(), (footer) => {
      footer.write('qemu', 28, 'latin1');
      footer.writeUInt16BE(1, 56);
      footer[84] = 1;
      footer.fill(0, 68, 84);
    });
    const image = await openBytes(odd);
    expect(image).toMatchObject({ creator: 'qemu', id: undefined, linkId: undefined });
    expect(image.warnings).toMatchObject([
      { code: 'VHD_GEOMETRY_SMALLER', severity: 'note' },
      { code: 'VHD_SAVED_STATE', severity: 'note' },
    ]);
  });
});

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { specimen } from '../../../support/specimens.js';
import { contentOf, openBytes } from './images.js';

const FILES = {
  windowsDynamic: specimen('win10-dynamic.vhd'),
  windowsFixed: specimen('win10-fixed.vhd'),
  parent: specimen('win8.vhd'),
  child: specimen('win8-child.vhd'),
  wrongChecksums: specimen('image.vhd'),
  wrongChecksumsChild: specimen('image-differential.vhd'),
  xenserver: specimen('xapi.vhd'),
  qemu: specimen('qemu.vhd'),
};
const missing = Object.values(FILES).includes(undefined);

function load(name: keyof typeof FILES) {
  return openBytes(readFileSync(FILES[name] ?? ''));
}

async function contentHash(name: keyof typeof FILES): Promise<string> {
  const content = await contentOf(await load(name), 3 * 1024 * 1024 + 512);
  return createHash('sha256').update(content).digest('hex').slice(0, 16);
}

describe.skipIf(missing)('VHDs of other programs (needs the specimens folder)', () => {
  it('dynamic, by Windows 10', async () => {
    const image = await load('windowsDynamic');
    expect(image).toMatchObject({ type: 'dynamic', virtualSize: 10485760, creator: 'win', warnings: [] });
    expect(await contentHash('windowsDynamic')).toBe('ecff2ef6615a3cdd');
    expect(await image.layout()).toMatchObject({
      allocatedBlocks: 3,
      totalBlocks: 5,
      payloadAlignment: 4096,
    });
    expect(await image.check()).toEqual([]);
  });

  it('fixed, by Windows 10', async () => {
    const image = await load('windowsFixed');
    expect(image).toMatchObject({ type: 'fixed', virtualSize: 10485760, warnings: [] });
    expect(await contentHash('windowsFixed')).toBe('459325ab1fcd1d5e');
    expect(await image.check()).toEqual([]);
  });

  it('parent and child, by Windows 8', async () => {
    const parent = await load('parent');
    const child = await load('child');
    expect(child.parentLink).toEqual({
      acceptedIds: [parent.linkId],
      candidates: [
        { source: 'W2ru', path: '.\\win8.vhd' },
        { source: 'W2ku', path: 'C:\\Users\\sergi\\Downloads\\win8.vhd' },
        { source: 'parent name', path: 'C:\\Users\\sergi\\Downloads\\win8.vhd' },
      ],
    });
    expect(await child.locate(0, 1000)).toEqual([{ state: 'absent', offset: 0, length: 1000 }]);
    expect(await parent.locate(0, 1000)).toEqual([{ state: 'zero', offset: 0, length: 1000 }]);
    expect([...(await parent.check()), ...(await child.check())]).toEqual([]);
  });

  it('parent and child with wrong checksums are readable with warnings', async () => {
    const parent = await load('wrongChecksums');
    const child = await load('wrongChecksumsChild');
    expect(child.parentLink?.acceptedIds).toEqual([parent.linkId]);
    expect(child.parentLink?.candidates).toEqual([{ source: 'parent name', path: 'image.vhd' }]);
    expect(parent.warnings.map(({ code }) => code)).toContain('VHD_FOOTER_CHECKSUM');
    expect(child.warnings.map(({ code }) => code)).toContain('VHD_HEADER_CHECKSUM');
    expect(parent.virtualSize).toBe(104448);
    await expect(parent.prepareWrite(0, 1)).rejects.toMatchObject({ code: 'READ_ONLY' });
    // The hash of the 204 sectors behind the bitmap, taken with dd and sha256sum.
    expect(await contentHash('wrongChecksums')).toBe('c6db12a7db548e19');
    expect(await contentHash('wrongChecksumsChild')).toBe('c6db12a7db548e19');
  });

  it('with a batmap, by XenServer, and packed, by an old QEMU', async () => {
    const xenserver = await load('xenserver');
    expect(xenserver).toMatchObject({ creator: 'tap', virtualSize: 41943040, warnings: [] });
    expect(await xenserver.check()).toEqual([]);
    const qemu = await load('qemu');
    expect(qemu).toMatchObject({ creator: 'qemu', virtualSize: 41953280, warnings: [] });
    expect(await qemu.check()).toEqual([]);
    expect((await contentOf(qemu)).every((byte) => byte === 0)).toBe(true);
  });
});

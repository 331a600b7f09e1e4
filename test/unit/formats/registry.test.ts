/**
 * Recognising formats: head and tail decide, and contradictions are refused.
 */
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../../src/base/random.js';
import type { FormatId } from '../../../src/formats/disk-image.js';
import {
  createImage,
  formatByExtension,
  formatByName,
  openImage,
  probeFormat,
} from '../../../src/formats/registry.js';
import { MemoryFile } from '../../../src/io/memory-file.js';

const MiB = 1024 * 1024;

async function image(format: FormatId, type: 'fixed' | 'dynamic'): Promise<Uint8Array> {
  const file = new MemoryFile();
  const options = { type, virtualSize: 4 * MiB, clock: { now: () => 1.7e12 }, random: systemRandom };
  await (await createImage(file, format, options)).flush();
  return file.bytes();
}

const probe = (bytes: Uint8Array): Promise<FormatId> => probeFormat(new MemoryFile(bytes, 'test'));

describe('probeFormat', () => {
  it('knows a fixed VHD by its end', async () => {
    expect(await probe(await image('vhd', 'fixed'))).toBe('vhd');
  });

  it('knows a dynamic VHD whose trailing footer is gone', async () => {
    const bytes = await image('vhd', 'dynamic');
    expect(await probe(bytes.subarray(0, bytes.length - 512))).toBe('vhd');
  });

  it('takes a fixed VHD that contains another VHD for what its end says', async () => {
    const inner = await image('vhd', 'dynamic');
    const outer = await image('vhd', 'fixed');
    outer.set(inner.subarray(0, Math.min(inner.length, 4 * MiB - 512)), 0);
    const file = new MemoryFile(outer);
    expect(await probeFormat(file)).toBe('vhd');
    expect((await openImage(file)).type).toBe('fixed');
  });

  it('refuses a file that is a VHDX at its head and a VHD at its tail', async () => {
    const bytes = await image('vhdx', 'dynamic');
    const fixed = await image('vhd', 'fixed');
    const both = Buffer.concat([bytes, fixed.subarray(fixed.length - 512)]);
    await expect(probe(both)).rejects.toMatchObject({ code: 'FORMAT_UNKNOWN' });
  });

  it.each([
    ['QCOW2', 0, 'QFI\xfb\0\0\0\x03'],
    ['VMDK', 0, 'KDMV\x01\0\0\0'],
    ['a VMDK descriptor', 0, '# Disk DescriptorFile\n'],
    ['VDI', 64, '\x7f\x10\xda\xbe'],
    ['gzip', 0, '\x1f\x8b\x08\0'],
    ['xz', 0, '\xfd7zXZ\0\0\x04'],
    ['zstd', 0, '\x28\xb5\x2f\xfd'],
    ['zip', 0, 'PK\x03\x04'],
  ])('says that %s is not read', async (_name, offset, magic) => {
    const bytes = Buffer.alloc(4096);
    bytes.write(magic, offset, 'latin1');
    await expect(probe(bytes)).rejects.toMatchObject({
      code: 'FORMAT_UNKNOWN',
      hint: expect.stringContaining('--from raw'),
    });
  });

  it.each([0, 1, 511, 512, 513, 4096])('takes %d bytes of nothing in particular for raw', async (length) => {
    expect(await probe(Buffer.alloc(length, 0x5a))).toBe('raw');
  });
});

describe('openImage', () => {
  it('closes the file when it cannot open the image', async () => {
    const file = new MemoryFile(Buffer.alloc(4096), 'test');
    await expect(openImage(file, { format: 'vhdx' })).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    await expect(file.read(Buffer.alloc(1), 0)).rejects.toMatchObject({ code: 'IO_FAILED' });
  });
});

describe('names', () => {
  it.each([
    ['vpc', 'vhd'],
    ['AVHDX', 'vhdx'],
    ['lun', 'raw'],
    ['qcow2', undefined],
  ])('%s is %s', (name, format) => {
    expect(formatByName(name)).toBe(format);
  });

  it.each([
    ['/x.y/disk.VHDX', 'vhdx'],
    ['disk.avhd', 'vhd'],
    ['disk.img', 'raw'],
    ['/x.vhd/disk', undefined],
    ['disk', undefined],
  ])('the extension of %s says %s', (path, format) => {
    expect(formatByExtension(path)).toBe(format);
  });
});

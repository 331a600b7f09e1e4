import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { geometryOf, geometrySize, packedGeometry } from '../../../../src/formats/vhd/geometry.js';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

describe('VHD geometry', () => {
  it.each([
    [MiB, 30, 4, 17, 1_044_480],
    [4 * MiB, 120, 4, 17, 4_177_920],
    [10 * MiB, 301, 4, 17, 10_479_616],
    [20 * MiB, 602, 4, 17, 20_959_232],
    [40 * MiB, 963, 5, 17, 41_909_760],
    [64 * MiB, 963, 8, 17, 67_055_616],
    [100 * MiB, 1003, 12, 17, 104_761_344],
    [128 * MiB, 963, 16, 17, 134_111_232],
    [256 * MiB, 520, 16, 63, 268_369_920],
    [504 * MiB, 1024, 16, 63, 528_482_304],
    [GiB, 2080, 16, 63, 1_073_479_680],
    [2 * GiB, 4161, 16, 63, 4161 * 16 * 63 * 512],
    [32 * GiB, 16448, 16, 255, 34_359_214_080],
    [127 * GiB, 65278, 16, 255, 136_363_130_880],
    [2040 * GiB, 65535, 16, 255, 136_899_993_600],
  ])('%d bytes give %d/%d/%d', (size, cylinders, heads, sectorsPerTrack, product) => {
    const geometry = geometryOf(size);
    expect(geometry).toEqual({ cylinders, heads, sectorsPerTrack });
    expect(geometrySize(geometry)).toBe(product);
  });

  it('never exceeds the disk and fits its fields', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 36 }), (sectors) => {
        const geometry = geometryOf(sectors * 512);
        expect(geometrySize(geometry)).toBeLessThanOrEqual(sectors * 512);
        expect(geometry.cylinders).toBeLessThanOrEqual(65535);
        expect(geometry.heads).toBeLessThanOrEqual(16);
        expect(geometry.sectorsPerTrack).toBeLessThanOrEqual(255);
      }),
    );
  });

  it('compares as the on-disk field does', () => {
    expect(packedGeometry({ cylinders: 0x1234, heads: 0x10, sectorsPerTrack: 0xff })).toBe(0x123410ff);
    expect(packedGeometry({ cylinders: 65535, heads: 16, sectorsPerTrack: 255 })).toBe(0xffff10ff);
  });
});

/** Sums of blocks against their definitions, whatever pieces the data comes in. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  blockAt,
  blockCount,
  blockRange,
  type Grid,
  wholeBlocks,
} from '../../../../src/offload/auxiliary/block-grid.js';
import { BlockSums, CRC32C, SHA256, ZeroSums } from '../../../../src/offload/auxiliary/block-sums.js';
import { crcByDefinition, cut, sha256 } from '../../../support/auxiliary-kit.js';

const grids: fc.Arbitrary<Grid> = fc
  .record({ length: fc.integer({ min: 1, max: 600 }), blockSize: fc.constantFrom(1, 2, 16, 64, 512) })
  .chain((grid) => fc.nat(grid.blockSize - 1).map((phase) => ({ ...grid, phase })));

describe('block grids', () => {
  it('blocks follow each other and cover the data', () => {
    fc.assert(
      fc.property(grids, (grid) => {
        const count = blockCount(grid);
        let end = 0;
        for (let index = 0; index < count; index += 1) {
          const { offset, length } = blockRange(grid, index);
          expect(offset).toBe(end);
          expect(blockAt(grid, offset)).toBe(index);
          expect(blockAt(grid, offset + length - 1)).toBe(index);
          if (index > 0) expect((offset + grid.phase) % grid.blockSize).toBe(0);
          end = offset + length;
        }
        expect(end).toBe(grid.length);
      }),
    );
  });

  it('whole blocks are those that lie inside', () => {
    fc.assert(
      fc.property(grids, fc.nat(600), fc.nat(600), (grid, a, b) => {
        const [from, to] = [Math.min(a, b, grid.length), Math.min(Math.max(a, b), grid.length)];
        fc.pre(from < to);
        const inside: number[] = [];
        for (let index = 0; index < blockCount(grid); index += 1) {
          const { offset, length } = blockRange(grid, index);
          if (offset >= from && offset + length <= to) inside.push(index);
        }
        const { first, end } = wholeBlocks(grid, from, to);
        expect(end - first).toBe(inside.length);
        if (inside.length > 0) expect(first).toBe(inside[0]);
      }),
    );
  });
});

describe('sums of blocks', () => {
  it.each([
    ['CRC-32C', CRC32C, crcByDefinition],
    ['SHA-256', SHA256, sha256],
  ] as const)('%s of pieces is that of the blocks', (_name, kind, definition) => {
    const zeros = new ZeroSums(kind);
    const pieces = fc.array(fc.tuple(fc.integer({ min: 1, max: 400 }), fc.boolean()), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(
        pieces,
        fc.constantFrom(16, 64, 512),
        fc.nat(15),
        fc.nat(),
        (parts, blockSize, phase, seed) => {
          const bytes = parts.map(([length, zero]) => {
            const piece = new Uint8Array(length);
            return zero ? piece : piece.map((_, index) => (seed + index * 7) & 0xff);
          });
          const data = Buffer.concat(bytes);
          const found: string[] = [];
          const sums = new BlockSums({ length: data.length, blockSize, phase }, kind, zeros, (index, sum) => {
            expect(index).toBe(found.length);
            found.push(Buffer.from(sum).toString('hex'));
          });
          for (const [index, [length, zero]] of parts.entries())
            sums.update(length, zero ? undefined : bytes[index]);
          expect(found).toEqual(
            cut(data, blockSize, phase).map((block) => definition(block).toString('hex')),
          );
        },
      ),
      { endOnFailure: true },
    );
  });
});

/**
 * Chains: parents are found by every kind of locator, accepted by identity only, and read through.
 */
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openChain } from '../../../src/formats/chain.js';
import { readDisk } from '../../../src/formats/image-reader.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { type ChildBlock, differencingVhd, fixedVhd } from '../../support/vhd-differencing.js';

const SIZE = 1024 * 1024;
const BLOCK = 64 * 1024;

let folder: string;
beforeEach(async () => {
  folder = await fs.mkdtemp(join(tmpdir(), 'vhdkit-chain-'));
});
afterEach(() => fs.rm(folder, { recursive: true, force: true }));

const id = (number: number): Uint8Array => Buffer.from(number.toString(16).padStart(32, 'a'), 'hex');

async function write(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await fs.mkdir(join(path, '..'), { recursive: true });
  await fs.writeFile(path, bytes);
  return path;
}

async function read(path: string): Promise<Buffer> {
  const chain = await openChain(nodeFileSystem, path);
  try {
    const out = Buffer.alloc(chain.virtualSize, 0xee);
    await readDisk(chain, out, 0);
    return out;
  } finally {
    await chain.close();
  }
}

interface Locator {
  code: string;
  text: string;
  spaceInSectors?: boolean;
}

function child(locators: Locator[], extra: object = {}): Buffer {
  return differencingVhd({
    size: SIZE,
    uniqueId: id(2),
    parentId: id(1),
    blockSize: BLOCK,
    locators,
    ...extra,
  });
}

const parent = (): Buffer => fixedVhd(Buffer.alloc(SIZE, 0x11), id(1));

describe('finding the parent', () => {
  it.each<[string, string, Locator[]]>([
    ['W2ru', 'sub/p.vhd', [{ code: 'W2ru', text: '.\\sub\\p.vhd' }]],
    ['W2ru with its space in sectors', 'p.vhd', [{ code: 'W2ru', text: '.\\p.vhd', spaceInSectors: true }]],
    ['W2ku of another machine, by its bare name', 'p.vhd', [{ code: 'W2ku', text: 'C:\\Disks\\p.vhd' }]],
    ['a relative path in W2ku, as blktap writes it', 'p.vhd', [{ code: 'W2ku', text: './p.vhd' }]],
    ['MacX', 'my p.vhd', [{ code: 'MacX', text: 'file://./my%20p.vhd' }]],
    ['another case of the name', 'Parent.VHD', [{ code: 'W2ru', text: '.\\PARENT.vhd' }]],
    [
      'the second locator when the first leads nowhere',
      'q.vhd',
      [
        { code: 'W2ru', text: '.\\gone.vhd' },
        { code: 'W2ku', text: 'D:\\q.vhd' },
      ],
    ],
  ])('by %s', async (_name, where, locators) => {
    await write(where, parent());
    const path = await write('child.vhd', child(locators));
    expect((await read(path)).every((byte) => byte === 0x11)).toBe(true);
  });

  it('by the name in the header when there are no locators', async () => {
    await write('p.vhd', parent());
    const path = await write('child.vhd', child([], { parentName: 'p.vhd' }));
    expect((await read(path)).every((byte) => byte === 0x11)).toBe(true);
  });

  it('passes over a namesake with another identity when the right one is there too', async () => {
    await write('wrong/p.vhd', fixedVhd(Buffer.alloc(SIZE, 0x99), id(9)));
    await write('p.vhd', parent());
    const path = await write('child.vhd', child([{ code: 'W2ru', text: '.\\wrong\\p.vhd' }]));
    expect((await read(path))[0]).toBe(0x11);
  });
});

describe('refusing', () => {
  const locators = [{ code: 'W2ru', text: '.\\p.vhd' }];

  it('a child without its parent, naming the file expected', async () => {
    const path = await write('child.vhd', child(locators));
    await expect(read(path)).rejects.toMatchObject({
      code: 'PARENT_MISSING',
      message: expect.stringContaining('p.vhd'),
      context: { tried: expect.arrayContaining([join(folder, 'p.vhd')]) },
    });
  });

  it('a parent with another identity', async () => {
    await write('p.vhd', fixedVhd(Buffer.alloc(SIZE), id(7)));
    const path = await write('child.vhd', child(locators));
    await expect(read(path)).rejects.toMatchObject({
      code: 'PARENT_MISMATCH',
      message: expect.stringContaining('p.vhd'),
    });
  });

  it('a parent of another format, even a raw file that fits', async () => {
    await write('p.vhd', Buffer.alloc(SIZE, 1));
    const path = await write('child.vhd', child(locators));
    await expect(read(path)).rejects.toMatchObject({ code: 'PARENT_MISMATCH' });
  });

  it('a damaged parent, with its own error', async () => {
    const bytes = await differencingVhd({ size: SIZE, uniqueId: id(1), parentId: id(0), blockSize: BLOCK });
    bytes.fill(0, 512, 1536);
    await write('p.vhd', bytes);
    const path = await write('child.vhd', child(locators));
    await expect(read(path)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
  });

  it('a chain that comes back to itself', async () => {
    const options = { size: SIZE, blockSize: BLOCK };
    await write(
      'a.vhd',
      differencingVhd({
        ...options,
        uniqueId: id(1),
        parentId: id(2),
        locators: [{ code: 'W2ru', text: '.\\b.vhd' }],
      }),
    );
    const b = await write(
      'b.vhd',
      differencingVhd({
        ...options,
        uniqueId: id(2),
        parentId: id(1),
        locators: [{ code: 'W2ru', text: '.\\a.vhd' }],
      }),
    );
    await expect(read(b)).rejects.toMatchObject({ code: 'PARENT_LOOP' });
  });

  it('an image that is its own parent', async () => {
    const self = await write(
      'p.vhd',
      differencingVhd({ size: SIZE, blockSize: BLOCK, uniqueId: id(1), parentId: id(1), locators }),
    );
    await expect(read(self)).rejects.toMatchObject({ code: 'PARENT_LOOP' });
  });

  it('a chain deeper than allowed', async () => {
    await write('p.vhd', parent());
    const path = await write('child.vhd', child(locators));
    await expect(openChain(nodeFileSystem, path, { maxDepth: 1 })).rejects.toMatchObject({
      code: 'CHAIN_TOO_DEEP',
    });
  });
});

describe('reading through', () => {
  it('shows a parent’s data through a child with an empty table', async () => {
    await write('p.vhd', parent());
    const path = await write('child.vhd', child([{ code: 'W2ru', text: '.\\p.vhd' }]));
    expect((await read(path)).equals(Buffer.alloc(SIZE, 0x11))).toBe(true);
  });

  it('shows zeros past the end of a smaller parent, and nothing past the end of a smaller child', async () => {
    await write('p.vhd', fixedVhd(Buffer.alloc(SIZE / 2, 0x11), id(1)));
    const larger = await write('larger.vhd', child([{ code: 'W2ru', text: '.\\p.vhd' }]));
    const out = await read(larger);
    expect(out.subarray(0, SIZE / 2).every((byte) => byte === 0x11)).toBe(true);
    expect(out.subarray(SIZE / 2).every((byte) => byte === 0)).toBe(true);
    const smaller = await write(
      'smaller.vhd',
      child([{ code: 'W2ru', text: '.\\p.vhd' }], { size: SIZE / 4 }),
    );
    expect((await read(smaller)).equals(Buffer.alloc(SIZE / 4, 0x11))).toBe(true);
  });

  it('leaves what only the parent knows absent when asked for the child alone', async () => {
    const path = await write('child.vhd', child([], { blocks: [{ index: 1, sectors: new Map([[3, 7]]) }] }));
    const chain = await openChain(nodeFileSystem, path, { withoutParent: true });
    const states = (await chain.locate(0, SIZE)).map(({ state, offset, length }) => [state, offset, length]);
    await chain.close();
    expect(states).toEqual([
      ['absent', 0, BLOCK + 3 * 512],
      ['data', BLOCK + 3 * 512, 512],
      ['absent', BLOCK + 4 * 512, SIZE - BLOCK - 4 * 512],
    ]);
  });

  const layer = fc.array(
    fc.record({
      block: fc.nat(SIZE / BLOCK - 1),
      sector: fc.nat(BLOCK / 512 - 1),
      count: fc.integer({ min: 1, max: 40 }),
    }),
    { maxLength: 6 },
  );

  it.each([1, 2, 8, 64])('equals a byte array with %d children of random sectors', async (depth) => {
    await fc.assert(
      fc.asyncProperty(fc.array(layer, { minLength: depth, maxLength: depth }), async (layers) => {
        const model = Buffer.alloc(SIZE, 0xf0);
        await write('0.vhd', fixedVhd(model, id(100)));
        for (const [index, writes] of layers.entries()) {
          const blocks = new Map<number, Map<number, number>>();
          for (const { block, sector, count } of writes) {
            const sectors = blocks.get(block) ?? new Map<number, number>();
            blocks.set(block, sectors);
            for (let s = sector; s < Math.min(sector + count, BLOCK / 512); s += 1) {
              sectors.set(s, index + 1);
              model.fill(index + 1, block * BLOCK + s * 512, block * BLOCK + (s + 1) * 512);
            }
          }
          const list: ChildBlock[] = [...blocks].map(([block, sectors]) => ({ index: block, sectors }));
          const bytes = differencingVhd({
            size: SIZE,
            blockSize: BLOCK,
            uniqueId: id(101 + index),
            parentId: id(100 + index),
            locators: [{ code: 'W2ru', text: `.\\${index}.vhd` }],
            blocks: list,
          });
          await write(`${index + 1}.vhd`, bytes);
        }
        expect((await read(join(folder, `${depth}.vhd`))).equals(model)).toBe(true);
      }),
      { numRuns: depth > 8 ? 4 : 15 },
    );
  });
});

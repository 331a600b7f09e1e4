/**
 * Chains that vhdkit made, as others see them: libvhdi reads the same bytes through 1 to 64 links, vhd-lib
 * accepts them, and both agree with a plain byte array that got the same writes.
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { info } from '../../src/operations/info.js';
import { contentOf, host, makeChain, type Patch, patch, patchAll } from '../support/chain-kit.js';
import { vhdiComplaint, vhdLibChainComplaint } from '../support/independent-readers.js';
import { fuse, lacking } from '../support/requires.js';
import { must, run } from '../support/run.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 8 * MiB;
const SECTOR = 512;

/** A seeded generator of whole numbers below a limit: a failing chain can be made again. */
function numbers(seed: number): (limit: number) => number {
  let state = seed * 2654435761;
  return (limit) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return state % limit;
  };
}

/**
 * Puts the same random runs of sectors into an image and into the model. Runs end at multiples of 4 KiB:
 * libvhdi 20210425 takes clear bits behind a set one in the same byte of a VHD's bitmap for set ones.
 */
async function scribble(
  file: string,
  model: Buffer,
  depth: number,
  next: (limit: number) => number,
): Promise<void> {
  const patches: Patch[] = [];
  for (let count = 0; count < 4; count += 1) {
    const first = next(SIZE / SECTOR);
    const most = (count === 0 ? 2.5 * MiB : 64 * KiB) / SECTOR;
    const end = Math.min(SIZE / SECTOR, 8 * Math.ceil((first + 1 + next(most)) / 8));
    // Zeros must not let the parent through.
    const bytes = Buffer.alloc((end - first) * SECTOR, count === 3 ? 0 : 1 + ((depth * 4 + count) % 255));
    bytes.copy(model, first * SECTOR);
    patches.push({ offset: first * SECTOR, bytes });
  }
  await patchAll(file, patches);
}

/** What libvhdi shows of the last file of a chain: of its files `vhdi1` … `vhdiN` the last is the child. */
async function readWithVhdi(file: string): Promise<{ content: Buffer; images: number }> {
  const mountPoint = makeTempFolder('vhdi');
  await must('vhdimount', [file, mountPoint]);
  try {
    const images = readdirSync(mountPoint).filter((name) => /^vhdi\d+$/.test(name)).length;
    return { content: readFileSync(path.join(mountPoint, `vhdi${images}`)), images };
  } finally {
    await run('umount', ['-l', mountPoint]);
  }
}

const lacks = lacking('vhdimount', 'vhdiinfo') || (fuse ? '' : ' (needs FUSE)');

describe.skipIf(lacks).each([
  { format: 'vhd', blockSize: 2 * MiB, baseType: 'dynamic', links: 1 },
  { format: 'vhd', blockSize: 512 * KiB, baseType: 'fixed', links: 2 },
  { format: 'vhd', blockSize: 2 * MiB, baseType: 'dynamic', links: 8 },
  { format: 'vhd', blockSize: 2 * MiB, baseType: 'dynamic', links: 64 },
  { format: 'vhdx', blockSize: MiB, baseType: 'dynamic', links: 1 },
  { format: 'vhdx', blockSize: 2 * MiB, baseType: 'fixed', links: 2 },
  { format: 'vhdx', blockSize: MiB, baseType: 'dynamic', links: 8 },
  { format: 'vhdx', blockSize: 2 * MiB, baseType: 'dynamic', links: 64 },
] as const)(
  `$links $format images over a $baseType one${lacks}`,
  ({ format, blockSize, baseType, links }) => {
    it('read the same everywhere', async () => {
      const next = numbers(links + blockSize);
      const model = Buffer.alloc(SIZE);
      const fill = (file: string, depth: number): Promise<void> => scribble(file, model, depth, next);
      const files = await makeChain(testFolder(), links, { format, size: SIZE, blockSize, baseType, fill });
      const top = files.at(-1) ?? '';
      expect((await contentOf(top)).equals(model)).toBe(true);
      const { chain = [] } = await info(host, { path: top, chain: true });
      expect(chain.map(({ parent }) => parent?.verdict)).toEqual([
        ...files.slice(1).map(() => 'matches'),
        undefined,
      ]);
      expect(await vhdiComplaint(top, SIZE)).toBeUndefined();
      const seen = await readWithVhdi(top);
      expect(seen.images).toBe(links + 1);
      expect(seen.content.equals(model)).toBe(true);
      // vhd-lib takes a fixed disk for no link at all.
      if (format === 'vhd' && baseType === 'dynamic') expect(await vhdLibChainComplaint(top)).toBeUndefined();
    });
  },
);

describe('a VHD child', () => {
  it('without its parent is refused by vhd-lib, so its yes above means something', async () => {
    const folder = testFolder();
    const [base = '', top = ''] = await makeChain(folder, 1, {
      format: 'vhd',
      size: SIZE,
      blockSize: 2 * MiB,
    });
    expect(await vhdLibChainComplaint(top)).toBeUndefined();
    await must('mv', [base, `${base}.away`]);
    expect(await vhdLibChainComplaint(top)).toMatch(/ENOENT/);
  });

  it('has its locators where Windows expects them: before the first block', async () => {
    const folder = testFolder();
    const [, top = ''] = await makeChain(folder, 1, { format: 'vhd', size: SIZE, blockSize: 2 * MiB });
    await patch(top, 0, Buffer.alloc(SECTOR, 1));
    const header = Buffer.alloc(1024);
    const table = Buffer.alloc(4);
    const descriptor = openSync(top, 'r');
    readSync(descriptor, header, 0, 1024, 512);
    readSync(descriptor, table, 0, 4, Number(header.readBigUInt64BE(16)));
    closeSync(descriptor);
    const firstBlock = table.readUInt32BE(0) * SECTOR;
    const codes: string[] = [];
    for (let entry = 576; entry < 576 + 8 * 24; entry += 24) {
      const code = header.toString('latin1', entry, entry + 4);
      if (code === '\0\0\0\0') continue;
      codes.push(code);
      const [space, length] = [header.readUInt32BE(entry + 4), header.readUInt32BE(entry + 8)];
      const offset = Number(header.readBigUInt64BE(entry + 16));
      expect(offset % SECTOR).toBe(0);
      expect(length).toBeLessThanOrEqual(space);
      expect(offset + space).toBeLessThanOrEqual(firstBlock);
    }
    expect(codes).toEqual(expect.arrayContaining(['W2ru', 'W2ku']));
  });
});

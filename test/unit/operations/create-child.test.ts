/**
 * `create --type differencing`: what a child takes from its parent, and what is refused before anything
 * appears.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { type CreateOptions, type CreateResult, create } from '../../../src/operations/create.js';
import { info } from '../../../src/operations/info.js';
import { contentOf, host, makeChain, patch } from '../../support/chain-kit.js';
import { fixture } from '../../support/fixtures.js';
import { testFolder } from '../../support/tmp.js';
import { MIB } from '../../support/vhdx-builder.js';

const FORMATS = ['vhd', 'vhdx'] as const;
const SIZE = 8 * MIB;
const BLOCK = MIB;

function child(file: string, parent: string, extra: Partial<CreateOptions> = {}): Promise<CreateResult> {
  return create(host, { path: file, type: 'differencing', parent, ...extra });
}

describe.each(FORMATS)('%s: a child', (format) => {
  const chain = (folder: string, children = 0, baseType: 'fixed' | 'dynamic' = 'dynamic') =>
    makeChain(folder, children, { format, size: SIZE, blockSize: BLOCK, baseType });

  it.each(['fixed', 'dynamic'] as const)(
    'of a %s parent shows it, and then what is written',
    async (type) => {
      const folder = testFolder();
      const [base = ''] = await chain(folder, 0, type);
      await patch(base, 2 * MIB - 512, Buffer.alloc(1024, 7));
      const before = readFileSync(base);
      const file = path.join(folder, `child.${format}`);
      const result = await child(file, base, { blockSize: BLOCK });
      expect(result).toMatchObject({
        format,
        type: 'differencing',
        virtualSize: SIZE,
        blockSize: BLOCK,
        depth: 2,
      });
      expect(result.warnings).toEqual([]);
      const expected = await contentOf(base);
      expect((await contentOf(file)).equals(expected)).toBe(true);
      await patch(file, 2 * MIB, Buffer.alloc(512, 9));
      expected.fill(9, 2 * MIB, 2 * MIB + 512);
      expect((await contentOf(file)).equals(expected)).toBe(true);
      expect(readFileSync(base).equals(before)).toBe(true);
    },
  );

  it('takes format, size and sectors from the parent, and may be larger', async () => {
    const folder = testFolder();
    const [base = ''] = await chain(folder);
    await patch(base, SIZE - 512, Buffer.alloc(512, 3));
    const plain = path.join(folder, 'no-extension');
    const result = await child(plain, base);
    expect(result).toMatchObject({ format, virtualSize: SIZE });
    expect(result.warnings).toMatchObject([{ code: 'CHAIN_NAME_WINDOWS', severity: 'warning' }]);
    const larger = path.join(folder, `larger.${format}`);
    await child(larger, plain, { size: 2 * SIZE });
    const content = await contentOf(larger);
    expect(content.length).toBe(2 * SIZE);
    expect(content.subarray(SIZE - 512, SIZE).every((byte) => byte === 3)).toBe(true);
    expect(content.subarray(SIZE).every((byte) => byte === 0)).toBe(true);
    const described = await info(host, { path: larger });
    expect(described.parent).toMatchObject({ status: 'matches', verdict: 'matches', virtualSize: SIZE });
  });

  it.each([
    ['a smaller size', { size: SIZE - 512 }, 'INVALID_ARGUMENT', 'cut off'],
    ['sizes that are none', { size: -1 }, 'INVALID_ARGUMENT', "can't have"],
    ['another format', { format: format === 'vhd' ? 'vhdx' : 'vhd' }, 'INVALID_ARGUMENT', 'same format'],
    ['other sectors', { logicalSectorSize: 4096 }, 'INVALID_ARGUMENT', 'sector'],
    ['a parent that is not there', { parent: 'nowhere/p.vhd' }, 'NOT_FOUND', 'nowhere'],
  ] as const)('with %s is refused', async (_name, extra, code, text) => {
    const folder = testFolder();
    const [base = ''] = await chain(folder);
    const file = path.join(folder, `child.${format}`);
    const error = expect.objectContaining({ code, message: expect.stringContaining(text) });
    await expect(child(file, base, extra)).rejects.toEqual(error);
    expect(readdirSync(folder)).toEqual([path.basename(base)]);
  });

  it('never replaces its parent or what that depends on, under any name', async () => {
    const folder = testFolder();
    const [base = '', middle = ''] = await chain(folder, 1);
    const link = path.join(folder, `link.${format}`);
    symlinkSync(base, link);
    for (const file of [middle, base, link]) {
      const before = readFileSync(file);
      await expect(child(file, middle, { force: true })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(readFileSync(file).equals(before)).toBe(true);
    }
    await expect(child(middle, base)).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
  });

  it('is refused over a chain that is incomplete or wrong', async () => {
    const folder = testFolder();
    const [base = '', middle = ''] = await chain(folder, 1);
    const file = path.join(folder, `child.${format}`);
    renameSync(base, `${base}.away`);
    await expect(child(file, middle)).rejects.toMatchObject({ code: 'PARENT_MISSING' });
    await create(host, { path: base, size: SIZE });
    await expect(child(file, middle)).rejects.toMatchObject({ code: 'PARENT_MISMATCH' });
    expect(existsSync(file)).toBe(false);
  });

  it('is refused while somebody writes the parent', async () => {
    const folder = testFolder();
    const [base = ''] = await chain(folder);
    const held = await nodeFileSystem.lock(base);
    const file = path.join(folder, `child.${format}`);
    await expect(child(file, base)).rejects.toMatchObject({
      code: 'IN_USE',
      context: { path: base, pid: process.pid },
    });
    await held.release();
    await child(file, base);
    expect(readdirSync(folder)).toHaveLength(2);
  });

  it('finds its parent when the folder of both moves, and when it moves alone', async () => {
    const folder = testFolder();
    const [base = ''] = await chain(folder);
    await patch(base, 0, Buffer.alloc(512, 5));
    const elsewhere = testFolder();
    const file = path.join(folder, `child.${format}`);
    await child(file, base);
    const alone = path.join(elsewhere, `child.${format}`);
    renameSync(file, alone);
    expect((await info(host, { path: alone })).parent).toMatchObject({ path: base, verdict: 'moved' });
    renameSync(base, path.join(elsewhere, path.basename(base)));
    expect((await info(host, { path: alone })).parent).toMatchObject({ verdict: 'matches', moved: false });
    expect((await contentOf(alone))[0]).toBe(5);
  });

  it('finds its parent through links to folders and files, with and without following them', async () => {
    const folder = testFolder();
    const store = path.join(folder, 'store/deep');
    mkdirSync(store, { recursive: true });
    mkdirSync(path.join(folder, 'elsewhere/bases'), { recursive: true });
    symlinkSync(store, path.join(folder, 'link'));
    const [base = ''] = await chain(path.join(folder, 'elsewhere/bases'));
    const file = path.join(folder, `link/child.${format}`);
    await child(file, base);
    const alias = path.join(testFolder(), 'alias.vhd');
    symlinkSync(file, alias);
    for (const name of [file, path.join(store, `child.${format}`), alias]) {
      const { parent } = await info(host, { path: name });
      expect(parent).toMatchObject({ verdict: 'matches', status: 'matches' });
    }
  });
});

describe('a child', () => {
  it('of a raw image is refused with what to do', async () => {
    const folder = testFolder();
    const raw = path.join(folder, 'disk.img');
    writeFileSync(raw, Buffer.alloc(MIB));
    await expect(child(path.join(folder, 'child.vhdx'), raw)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      hint: expect.stringContaining('convert it'),
    });
    await expect(
      create(host, { path: path.join(folder, 'x.vhdx'), size: MIB, parent: raw }),
    ).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    expect(readdirSync(folder)).toEqual(['disk.img']);
  });

  it('of a 4 KiB-sector VHDX has such sectors and the disk’s id, and other physical ones are refused', async () => {
    const folder = testFolder();
    const base = path.join(folder, 'base.vhdx');
    await create(host, { path: base, size: SIZE, logicalSectorSize: 4096, physicalSectorSize: 4096 });
    const file = path.join(folder, 'child.avhdx');
    await expect(child(file, base, { physicalSectorSize: 512 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await child(file, base);
    const { chain = [] } = await info(host, { path: file, chain: true });
    expect(chain).toHaveLength(2);
    for (const image of chain) {
      expect(image).toMatchObject({ logicalSectorSize: 4096, physicalSectorSize: 4096, id: chain[0]?.id });
    }
    expect(chain[0]?.parent?.id).toBe(chain[1]?.linkId);
    const third = await child(path.join(folder, 'third.vhdx'), file);
    expect(third.warnings).toMatchObject([{ code: 'CHAIN_PARENT_NAME_WINDOWS', severity: 'note' }]);
  });

  it('of a parent whose log waits for replay says so', async () => {
    const folder = testFolder();
    const base = path.join(folder, 'base.vhdx');
    copyFileSync(fixture('dirty-log.vhdx'), base);
    const before = readFileSync(base);
    const file = path.join(folder, 'child.vhdx');
    const result = await child(file, base);
    expect(result.warnings).toMatchObject([{ code: 'CHAIN_PARENT_LOG_DIRTY', severity: 'warning' }]);
    expect((await contentOf(file)).equals(await contentOf(base))).toBe(true);
    expect(readFileSync(base).equals(before)).toBe(true);
  });
});

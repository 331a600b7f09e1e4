/**
 * What `info --chain` and `map` say of links that are not as they should be, and that nobody reads through
 * them. Each case is checked three ways: the answer of info, the map that is left, the error of reading.
 */
import * as fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openChain } from '../../../src/formats/chain.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { create } from '../../../src/operations/create.js';
import { type InfoResult, info } from '../../../src/operations/info.js';
import { openMap } from '../../../src/operations/map.js';
import { contentOf, host, makeChain, patch } from '../../support/chain-kit.js';
import { mountNew } from '../../support/mounts.js';
import { canMount, isRoot } from '../../support/requires.js';
import { testFolder } from '../../support/tmp.js';
import { differencingVhd, fixedVhd } from '../../support/vhd-differencing.js';

const MiB = 1024 * 1024;
const SIZE = 4 * MiB;
const FORMATS = ['vhd', 'vhdx'] as const;

const chainOf = async (file: string): Promise<NonNullable<InfoResult['chain']>> =>
  (await info(host, { path: file, chain: true })).chain ?? [];

const verdicts = async (file: string): Promise<(string | undefined)[]> =>
  (await chainOf(file)).map(({ parent }) => parent?.verdict);

/** What the map says: the code of its problem, and the bytes that nobody has an answer for. */
async function mapped(
  file: string,
): Promise<{ problem: string | undefined; absent: number; images: number }> {
  const map = await openMap(host, { path: file });
  let absent = 0;
  for await (const { state, length } of map.entries()) if (state === 'absent') absent += length;
  await map.close();
  return { problem: map.parentProblem?.code, absent, images: map.images.length };
}

const failure = (file: string): Promise<unknown> =>
  contentOf(file).then(
    () => undefined,
    (error: unknown) => error,
  );

describe.each(FORMATS)('%s: the link to a parent', (format) => {
  const chain = (folder: string, children: number) =>
    makeChain(folder, children, { format, size: SIZE, blockSize: MiB });

  it('that is all right', async () => {
    const [, , top = ''] = await chain(testFolder(), 2);
    expect(await verdicts(top)).toEqual(['matches', 'matches', undefined]);
    const images = await chainOf(top);
    expect(images[0]?.parent).toMatchObject({
      path: images[1]?.path,
      moved: false,
      modified: false,
      id: images[1]?.linkId,
    });
    expect(await mapped(top)).toEqual({ problem: undefined, absent: 0, images: 3 });
  });

  it('that is missing further down leaves what lies above it', async () => {
    const [base = '', , top = ''] = await chain(testFolder(), 2);
    await patch(top, 0, Buffer.alloc(512, 1));
    fs.rmSync(base);
    expect(await verdicts(top)).toEqual(['matches', 'missing']);
    expect(await mapped(top)).toEqual({ problem: 'PARENT_MISSING', absent: SIZE - 512, images: 2 });
    expect(await failure(top)).toMatchObject({
      code: 'PARENT_MISSING',
      message: expect.stringContaining(path.basename(base)),
    });
  });

  it('that was swapped for another image', async () => {
    const folder = testFolder();
    const [base = '', top = ''] = await chain(folder, 1);
    const other = path.join(folder, `other.${format}`);
    await create(host, { path: other, size: SIZE });
    fs.renameSync(other, base);
    const [image] = await chainOf(top);
    expect(image?.parent).toMatchObject({
      status: 'mismatch',
      verdict: 'wrong-id',
      modified: false,
      path: base,
      foundId: (await info(host, { path: base })).linkId,
    });
    expect(await mapped(top)).toMatchObject({ problem: 'PARENT_MISMATCH', images: 1 });
    expect(await failure(top)).toMatchObject({ code: 'PARENT_MISMATCH', context: { difference: 'id' } });
  });

  it('where a raw disk or one of the other format lies now', async () => {
    const [base = '', top = ''] = await chain(testFolder(), 1);
    fs.writeFileSync(base, Buffer.alloc(SIZE));
    expect(await verdicts(top)).toEqual(['wrong-format']);
    await create(host, { path: base, size: SIZE, force: true, format: format === 'vhd' ? 'vhdx' : 'vhd' });
    expect(await verdicts(top)).toEqual(['wrong-format']);
    expect(await failure(top)).toMatchObject({ code: 'PARENT_MISMATCH', context: { difference: 'format' } });
  });

  it('where a folder or a damaged image lies now', async () => {
    const [base = '', top = ''] = await chain(testFolder(), 1);
    fs.truncateSync(base, format === 'vhd' ? 1024 : 256 * 1024);
    const [damaged] = await chainOf(top);
    expect(damaged?.parent?.verdict).toBe('unreadable');
    expect(await failure(top)).toMatchObject({ code: expect.stringMatching(/IMAGE_CORRUPT|FORMAT_UNKNOWN/) });
    fs.rmSync(base);
    fs.mkdirSync(base);
    const [image] = await chainOf(top);
    expect(image?.parent).toMatchObject({ status: 'unreadable', verdict: 'unreadable' });
    expect(await mapped(top)).toMatchObject({ problem: 'NOT_A_DISK', absent: SIZE });
    expect(await failure(top)).toMatchObject({ code: 'NOT_A_DISK', message: expect.stringContaining(base) });
  });

  it.runIf(isRoot && typeof process.seteuid === 'function')('that the user may not read', async () => {
    const folder = testFolder();
    const [base = '', top = ''] = await chain(folder, 1);
    fs.chmodSync(folder, 0o755);
    fs.chmodSync(path.dirname(folder), 0o755);
    fs.chmodSync(base, 0o600);
    process.seteuid?.(65534);
    try {
      const [image] = await chainOf(top);
      expect(image?.parent).toMatchObject({ verdict: 'unreadable', path: base });
      expect(await failure(top)).toMatchObject({ code: 'PERMISSION_DENIED' });
      const child = { path: path.join(folder, `x.${format}`), type: 'differencing', parent: base } as const;
      await expect(create(host, child)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    } finally {
      process.seteuid?.(0);
    }
  });

  it('that lies beside the child under its name only has moved', async () => {
    const folder = testFolder();
    const deep = path.join(folder, 'bases');
    fs.mkdirSync(deep);
    const [base = ''] = await chain(deep, 0);
    const top = path.join(folder, `top.${format}`);
    await create(host, { path: top, type: 'differencing', parent: base });
    fs.renameSync(base, path.join(folder, path.basename(base)));
    const [image] = await chainOf(top);
    expect(image?.parent).toMatchObject({
      status: 'matches',
      verdict: 'moved',
      moved: true,
      storedPath: `.\\bases\\0.${format}`,
      path: path.join(folder, `0.${format}`),
    });
    expect(await mapped(top)).toEqual({ problem: undefined, absent: 0, images: 2 });
  });

  it('to an image that grew or shrank is told with the sizes', async () => {
    const folder = testFolder();
    const [base = ''] = await chain(folder, 0);
    const top = path.join(folder, `top.${format}`);
    await create(host, { path: top, type: 'differencing', parent: base, size: 2 * SIZE });
    const images = await chainOf(top);
    expect(images.map(({ virtualSize }) => virtualSize)).toEqual([2 * SIZE, SIZE]);
    expect(images[0]?.parent).toMatchObject({ verdict: 'matches', virtualSize: SIZE });
    expect((await contentOf(top)).length).toBe(2 * SIZE);
  });

  it.runIf(canMount('tmpfs'))(
    'on another volume is found there and told missing when that is away',
    async () => {
      const volume = mountNew('tmpfs', 64);
      try {
        const [base = ''] = await chain(volume.path, 0);
        await patch(base, 0, Buffer.alloc(512, 8));
        const top = path.join(testFolder(), `top.${format}`);
        await create(host, { path: top, type: 'differencing', parent: base });
        expect(await verdicts(top)).toEqual(['matches', undefined]);
        expect((await contentOf(top))[0]).toBe(8);
        fs.renameSync(base, `${base}.away`);
        expect(await verdicts(top)).toEqual(['missing']);
        expect(await failure(top)).toMatchObject({ code: 'PARENT_MISSING' });
      } finally {
        volume.unmount();
      }
    },
  );
});

describe('a parent that was modified after the child was made', () => {
  it('VHDX: is refused, and told from another image', async () => {
    const [base = '', top = ''] = await makeChain(testFolder(), 1, {
      format: 'vhdx',
      size: SIZE,
      blockSize: MiB,
    });
    await patch(base, 0, Buffer.alloc(512, 1));
    const [image] = await chainOf(top);
    expect(image?.parent).toMatchObject({
      status: 'mismatch',
      verdict: 'modified',
      modified: true,
      reason: expect.stringContaining('modified since'),
    });
    expect(await failure(top)).toMatchObject({
      code: 'PARENT_MISMATCH',
      message: expect.stringContaining('modified since'),
      context: { difference: 'modified' },
      hint: expect.stringContaining('as it was'),
    });
  });

  it('VHDX: a sibling in its place is another image, not the parent in another state', async () => {
    const folder = testFolder();
    const options = { format: 'vhdx', size: SIZE, blockSize: MiB } as const;
    const [base = '', top = ''] = await makeChain(folder, 1, options);
    const sibling = path.join(folder, 'sibling.vhdx');
    await create(host, { path: sibling, type: 'differencing', parent: base });
    fs.renameSync(sibling, base);
    expect(await verdicts(top)).toEqual(['wrong-id']);
  });

  it('VHD: its time is a remark, and no time and other time zones are none', async () => {
    const folder = testFolder();
    const base = path.join(folder, 'p.vhd');
    const id = Buffer.alloc(16, 1);
    fs.writeFileSync(base, fixedVhd(Buffer.alloc(MiB), id));
    const top = path.join(folder, 'top.vhd');
    await create(host, { path: top, type: 'differencing', parent: base });
    const remembered = Math.floor(fs.statSync(base).mtimeMs / 1000);
    const modifiedBy = async (seconds: number): Promise<unknown> => {
      fs.utimesSync(base, remembered + seconds, remembered + seconds);
      const { parent } = await info(host, { path: top });
      expect(parent).toMatchObject({ status: 'matches', verdict: 'matches' });
      expect(parent?.times !== undefined).toBe(parent?.modified);
      return parent?.modified;
    };
    expect(await modifiedBy(0)).toBe(false);
    expect(await modifiedBy(2)).toBe(false);
    expect(await modifiedBy(60)).toBe(true);
    expect(await modifiedBy(7200)).toBe(false);
    expect(await modifiedBy(-3600 + 1)).toBe(false);
    expect(await modifiedBy(28 * 3600)).toBe(true);
    expect((await contentOf(top)).length).toBe(MiB);
    const timeless = differencingVhd({
      size: MiB,
      uniqueId: Buffer.alloc(16, 2),
      parentId: id,
      locators: [{ code: 'W2ru', text: '.\\p.vhd' }],
    });
    fs.writeFileSync(top, timeless);
    expect(await modifiedBy(1e6)).toBe(false);
  });
});

describe('chains without an end', () => {
  const id = (number: number): Buffer => Buffer.from(number.toString(16).padStart(32, 'd'), 'hex');
  const link = (folder: string, number: number, parent: number): string => {
    const file = path.join(folder, `${number}.vhd`);
    const bytes = differencingVhd({
      size: MiB,
      uniqueId: id(number),
      parentId: id(parent),
      locators: [{ code: 'W2ru', text: `.\\${parent}.vhd` }],
    });
    fs.writeFileSync(file, bytes);
    return file;
  };

  it('that come back to themselves are an answer of info and an error of everything else', async () => {
    const folder = testFolder();
    const top = link(folder, 1, 2);
    link(folder, 2, 3);
    link(folder, 3, 2);
    expect(await verdicts(top)).toEqual(['matches', 'matches', 'loop']);
    const images = await chainOf(top);
    expect(images[2]?.parent).toMatchObject({
      path: images[1]?.path,
      reason: expect.stringContaining('ancestor'),
    });
    await expect(openMap(host, { path: top })).rejects.toMatchObject({ code: 'PARENT_LOOP' });
    expect(await failure(top)).toMatchObject({ code: 'PARENT_LOOP' });
    const child = { path: path.join(folder, 'x.vhd'), type: 'differencing', parent: top } as const;
    await expect(create(host, child)).rejects.toMatchObject({ code: 'PARENT_LOOP' });
    const self = link(folder, 9, 9);
    expect(await verdicts(self)).toEqual(['loop']);
    expect((await info(host, { path: self })).parent?.verdict).toBe('loop');
  });

  it('300 deep end at the limit; at the limit nothing is put on top', async () => {
    const folder = testFolder();
    fs.writeFileSync(path.join(folder, '0.vhd'), fixedVhd(Buffer.alloc(MiB), id(0)));
    const files = [path.join(folder, '0.vhd')];
    for (let number = 1; number < 300; number += 1) files.push(link(folder, number, number - 1));
    const [top = '', within = ''] = [files[299], files[255]];
    const images = await chainOf(top);
    expect(images).toHaveLength(256);
    expect(images[255]?.parent?.verdict).toBe('too-deep');
    expect(images.slice(0, 255).every(({ parent }) => parent?.verdict === 'matches')).toBe(true);
    expect(await failure(top)).toMatchObject({ code: 'CHAIN_TOO_DEEP', hint: expect.stringMatching(/\S/) });
    const chain = await openChain(nodeFileSystem, within);
    expect(chain.images).toHaveLength(256);
    await chain.close();
    const file = path.join(folder, 'x.vhd');
    const over = (parent: string) => create(host, { path: file, type: 'differencing', parent });
    await expect(over(within)).rejects.toMatchObject({ code: 'CHAIN_TOO_DEEP' });
    expect(await over(files[254] ?? '')).toMatchObject({ depth: 256 });
    expect((await contentOf(file)).length).toBe(MiB);
  });
});

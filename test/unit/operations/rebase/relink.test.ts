/**
 * Relink and what rebase refuses: links after moves and renames, parents that are not the one, loops,
 * sector sizes. On real files, because paths are what it is about.
 */
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openChain } from '../../../../src/formats/chain.js';
import { nodeFileSystem } from '../../../../src/io/node-file-system.js';
import { create } from '../../../../src/operations/create.js';
import { systemHost } from '../../../../src/operations/host.js';
import { rebase } from '../../../../src/operations/rebase.js';
import { testFolder } from '../../../support/tmp.js';
import { addImage, change, contentOf, expectSame } from '../merge/chains.js';

const host = systemHost();
const SIZE = 3 * 1024 * 1024;
const FORMATS = ['vhd', 'vhdx'] as const;
type Format = (typeof FORMATS)[number];

const shapeOf = (format: Format) => ({
  format,
  blockSize: format === 'vhd' ? 65536 : 1 << 20,
  baseType: 'dynamic' as const,
});

/** `base` and `child` over it, with data in both. */
async function pair(
  folder: string,
  format: Format,
): Promise<{ base: string; child: string; content: Buffer }> {
  const [base, child] = [path.join(folder, `base.${format}`), path.join(folder, `child.${format}`)];
  const content = Buffer.alloc(SIZE);
  await addImage(host, base, shapeOf(format), SIZE, undefined);
  await change(host, base, content, [{ kind: 'write', at: 0, sectors: 3000, fill: 1 }]);
  await addImage(host, child, shapeOf(format), SIZE, base);
  await change(host, child, content, [{ kind: 'write', at: 0.3, sectors: 300, fill: 2 }]);
  return { base, child, content };
}

async function parentOf(child: string): Promise<{ path: string | undefined; stored: string[] }> {
  const chain = await openChain(nodeFileSystem, child);
  await chain.close();
  const stored = chain.top.parentLink?.candidates.map((each) => each.path.replaceAll('\\', '/')) ?? [];
  return { path: chain.images[1]?.file.path, stored };
}

async function refusal(act: Promise<unknown>): Promise<unknown> {
  return act.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe.each(FORMATS)('relink of a %s', (format) => {
  it('finds a parent that was moved together with the child, and repairs every path', async () => {
    const folder = testFolder();
    const { content } = await pair(folder, format);
    const moved = path.join(folder, 'elsewhere');
    mkdirSync(moved);
    for (const name of ['base', 'child']) {
      renameSync(path.join(folder, `${name}.${format}`), path.join(moved, `${name}.${format}`));
    }
    const child = path.join(moved, `child.${format}`);
    const before = readFileSync(child);
    const plan = await rebase(host, { path: child, relink: true, dryRun: true });
    expect(plan).toMatchObject({ relink: true, linkChanged: true, idMatched: true, dryRun: true });
    expect(readFileSync(child).equals(before)).toBe(true);
    await rebase(host, { path: child, relink: true });
    const { path: found, stored } = await parentOf(child);
    expect(found).toBe(path.join(moved, `base.${format}`));
    expect(stored.filter((each) => each.startsWith('/') && !each.startsWith(moved))).toEqual([]);
    expectSame(await contentOf(host, child), content, 'relinked');
    const done = readFileSync(child);
    expect(await rebase(host, { path: child, relink: true })).toMatchObject({ linkChanged: false });
    expect(readFileSync(child).equals(done)).toBe(true);
  });

  it('takes a renamed parent that is named, and reads no content for it', async () => {
    const folder = testFolder();
    const { base, child, content } = await pair(folder, format);
    const renamed = path.join(folder, 'other', `renamed.${format}`);
    mkdirSync(path.dirname(renamed));
    renameSync(base, renamed);
    expect(await refusal(rebase(host, { path: child, relink: true }))).toMatchObject({
      code: 'PARENT_MISSING',
    });
    const result = await rebase(host, { path: child, parent: renamed, relink: true });
    expect(result).toMatchObject({ parent: renamed, linkChanged: true, compared: 0, pulled: 0 });
    expect((await parentOf(child)).path).toBe(renamed);
    expectSame(await contentOf(host, child), content, 'relinked');
  });

  it('refuses another parent, says what differs, and takes it only when told to', async () => {
    const folder = testFolder();
    const { child, content } = await pair(folder, format);
    const foreign = path.join(folder, `foreign.${format}`);
    await addImage(host, foreign, shapeOf(format), SIZE + 65536, undefined);
    const before = readFileSync(child);
    const failure = await refusal(rebase(host, { path: child, parent: foreign, relink: true }));
    expect(failure).toMatchObject({
      code: 'PARENT_MISMATCH',
      message: expect.stringMatching(
        format === 'vhd' ? /unique id is .*has 3211264 bytes/ : /DataWriteGuid is .*probably another disk/,
      ),
      hint: expect.stringContaining('--ignore-id-mismatch'),
    });
    expect(readFileSync(child).equals(before)).toBe(true);
    const options = { path: child, parent: foreign, relink: true, ignoreIdMismatch: true };
    const { idMatched, warnings } = await rebase(host, options);
    const codes = warnings.map(({ code }) => code);
    expect({ idMatched, codes }).toEqual({
      idMatched: false,
      codes: ['PARENT_ID_IGNORED', ...(format === 'vhdx' ? ['PARENT_DISK_ID'] : []), 'PARENT_LARGER'],
    });
    // What the child does not hold itself is what the empty image shows.
    const start = Math.floor(0.3 * (SIZE / 512)) * 512;
    content.fill(0, 0, start).fill(0, start + 300 * 512);
    expectSame(await contentOf(host, child), content, 'relinked');
  });

  it('names the parent that was changed since, when nothing is named', async () => {
    const folder = testFolder();
    const { base, child } = await pair(folder, format);
    if (format === 'vhd') {
      // A VHD's id does not stand for its content: another disk under the old name.
      await addImage(host, `${base}.new`, shapeOf(format), SIZE, undefined);
      renameSync(`${base}.new`, base);
    } else await change(host, base, Buffer.alloc(SIZE), [{ kind: 'write', at: 0, sectors: 1, fill: 3 }]);
    expect(await refusal(rebase(host, { path: child, relink: true }))).toMatchObject({
      code: 'PARENT_MISMATCH',
      message: expect.stringContaining(
        format === 'vhd' ? 'unique id' : 'written to after the child was made',
      ),
    });
    expect(await refusal(rebase(host, { path: child, parent: base }))).toMatchObject({
      code: 'PARENT_MISMATCH',
      hint: expect.stringContaining('--relink'),
    });
  });

  it('writes a relative path that holds where the child lies, whatever link leads to it', async () => {
    const folder = testFolder();
    const inner = path.join(folder, 'inner');
    mkdirSync(inner);
    const { base, child, content } = await pair(inner, format);
    const renamed = path.join(inner, `renamed.${format}`);
    renameSync(base, renamed);
    const link = path.join(folder, `link.${format}`);
    symlinkSync(child, link);
    await rebase(host, { path: link, parent: renamed, relink: true });
    cpSync(inner, path.join(folder, 'copy'), { recursive: true });
    const copied = path.join(folder, 'copy', `child.${format}`);
    expect((await parentOf(copied)).path).toBe(path.join(folder, 'copy', `renamed.${format}`));
    expectSame(await contentOf(host, copied), content, 'copied');
    expectSame(await contentOf(host, link), content, 'through the link');
  });
});

describe.each(FORMATS)('rebase of a %s refuses, and changes nothing', (format) => {
  it.each([false, true])('a parent that depends on the child (relink: %s)', async (relink) => {
    const folder = testFolder();
    const { base, child } = await pair(folder, format);
    const grandchild = path.join(folder, `grandchild.${format}`);
    await addImage(host, grandchild, shapeOf(format), SIZE, child);
    const before = readFileSync(child);
    for (const parent of [child, grandchild]) {
      const options = { path: child, parent, relink, ...(relink ? { ignoreIdMismatch: true } : {}) };
      expect(await refusal(rebase(host, options))).toMatchObject({ code: 'PARENT_LOOP' });
    }
    expect(readFileSync(child).equals(before)).toBe(true);
    expect((await parentOf(child)).path).toBe(base);
  });

  it('an image without a parent, another format, a raw disk, other sectors', async () => {
    const folder = testFolder();
    const { base, child } = await pair(folder, format);
    const other = format === 'vhd' ? 'vhdx' : 'vhd';
    const foreign = path.join(folder, `foreign.${other}`);
    await addImage(host, foreign, shapeOf(other), SIZE, undefined);
    const raw = path.join(folder, 'disk.raw');
    writeFileSync(raw, Buffer.alloc(SIZE));
    const parents = [foreign, raw];
    if (format === 'vhdx') {
      parents.push(path.join(folder, 'sectors.vhdx'));
      await create(host, { path: path.join(folder, 'sectors.vhdx'), size: SIZE, logicalSectorSize: 4096 });
    }
    const before = readFileSync(child);
    const unsupported = { code: 'UNSUPPORTED', hint: expect.any(String) };
    expect(await refusal(rebase(host, { path: base, parent: child }))).toMatchObject(unsupported);
    for (const relink of [false, true]) {
      for (const parent of parents) {
        const options = { path: child, parent, relink, ...(relink ? { ignoreIdMismatch: true } : {}) };
        expect(await refusal(rebase(host, options))).toMatchObject(unsupported);
      }
    }
    expect(readFileSync(child).equals(before)).toBe(true);
  });

  it('a parent, or a child, that another process changes', async () => {
    const folder = testFolder();
    const { base, child } = await pair(folder, format);
    const copy = path.join(folder, `copy.${format}`);
    copyFileSync(base, copy);
    for (const held of [base, copy, child]) {
      const lock = await nodeFileSystem.lock(held);
      const failure = await refusal(rebase(host, { path: child, parent: copy }));
      expect(failure).toMatchObject({ code: 'IN_USE', context: { pid: process.pid } });
      await lock.release();
    }
    expect(await rebase(host, { path: child, parent: copy })).toMatchObject({ pulled: 0 });
  });
});

/**
 * Finding the images that depend on another: by id, in the places named, whatever else lies there.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openImage } from '../../../src/formats/registry.js';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { assertNoChildren, findChildren } from '../../../src/operations/children.js';
import { testFolder } from '../../support/tmp.js';
import { differencingVhd, fixedVhd } from '../../support/vhd-differencing.js';
import { buildVhdx, DATA_WRITE_GUID, MIB } from '../../support/vhdx-builder.js';

const host = { fileSystem: nodeFileSystem };
const id = (number: number): Uint8Array => Buffer.from(number.toString(16).padStart(32, 'c'), 'hex');

function write(file: string, bytes: Uint8Array): string {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, bytes);
  return file;
}

function child(file: string, number: number, parentNumber: number, parentName: string): string {
  const bytes = differencingVhd({
    size: MIB,
    blockSize: 65536,
    uniqueId: id(number),
    parentId: id(parentNumber),
    locators: [{ code: 'W2ru', text: `.\\${parentName}` }],
  });
  return write(file, bytes);
}

async function childrenOf(
  file: string,
  ...rest: [places?: readonly string[], except?: readonly string[]]
): Promise<string[]> {
  const image = await openImage(await nodeFileSystem.open(file));
  try {
    return (await findChildren(host, image, ...rest)).map((each) => each.path);
  } finally {
    await image.close();
  }
}

describe('findChildren', () => {
  it('finds those in the same folder by id, passing over everything else that lies there', async () => {
    const folder = testFolder();
    const parent = write(path.join(folder, 'p.vhd'), fixedVhd(Buffer.alloc(MIB), id(1)));
    const a = child(path.join(folder, 'a.avhd'), 2, 1, 'p.vhd');
    const b = child(path.join(folder, 'B.VHD'), 3, 1, 'renamed-since.vhd');
    child(path.join(folder, 'grandchild.vhd'), 4, 2, 'a.avhd');
    write(path.join(folder, 'rubbish.vhd'), Buffer.alloc(4096, 7));
    write(path.join(folder, 'empty.vhdx'), Buffer.alloc(0));
    mkdirSync(path.join(folder, 'folder.vhd'));
    symlinkSync('nowhere', path.join(folder, 'dangling.vhd'));
    symlinkSync('a.avhd', path.join(folder, 'link.vhd'));
    expect((await childrenOf(parent)).sort()).toEqual([b, a].sort());
  });

  it('looks into other folders and at files that are named, and not at those excepted', async () => {
    const folder = testFolder();
    const parent = write(path.join(folder, 'p.vhd'), fixedVhd(Buffer.alloc(MIB), id(1)));
    const a = child(path.join(folder, 'a.vhd'), 2, 1, 'p.vhd');
    const b = child(path.join(folder, 'other/b.vhd'), 3, 1, '..\\p.vhd');
    const c = child(path.join(folder, 'third/no-extension'), 4, 1, '..\\p.vhd');
    expect(await childrenOf(parent, [folder, path.join(folder, 'other'), c])).toEqual([a, b, c]);
    symlinkSync(a, path.join(folder, 'other/same.vhd'));
    expect(await childrenOf(parent, undefined, [path.join(folder, 'other/same.vhd')])).toEqual([]);
  });

  it('does not count the child of a copy that has the same id', async () => {
    const folder = testFolder();
    const bytes = fixedVhd(Buffer.alloc(MIB), id(1));
    const parent = write(path.join(folder, 'p.vhd'), bytes);
    const copy = write(path.join(folder, 'copy.vhd'), bytes);
    const a = child(path.join(folder, 'a.vhd'), 2, 1, 'copy.vhd');
    expect(await childrenOf(parent)).toEqual([]);
    expect(await childrenOf(copy)).toEqual([a]);
  });

  it('knows VHDX children by DataWriteGuid, in either linkage', async () => {
    const folder = testFolder();
    const other = '99999999-2222-4333-8444-555555555555';
    const build = async (name: string, description: Parameters<typeof buildVhdx>[0]): Promise<string> =>
      write(path.join(folder, name), (await buildVhdx(description)).file.bytes());
    const parent = await build('p.vhdx', { virtualSize: 4 * MIB });
    const relativePath = '.\\p.vhdx';
    const parts = { virtualSize: 4 * MIB, dataWriteGuid: other };
    const a = await build('a.vhdx', { ...parts, parent: { linkage: DATA_WRITE_GUID, relativePath } });
    const b = await build('b.avhdx', {
      ...parts,
      parent: { linkage: other, linkage2: DATA_WRITE_GUID, relativePath },
    });
    await build('stranger.vhdx', { ...parts, parent: { linkage: other, relativePath } });
    expect(await childrenOf(parent)).toEqual([a, b]);
  });

  it('finds none of an image without an id', async () => {
    const raw = write(path.join(testFolder(), 'disk.img'), Buffer.alloc(MIB));
    expect(await childrenOf(raw)).toEqual([]);
  });
});

describe('assertNoChildren', () => {
  it('names the children and what to do', async () => {
    const image = await openImage(
      await nodeFileSystem.open(write(path.join(testFolder(), 'p.img'), Buffer.alloc(512))),
    );
    await image.close();
    expect(() => assertNoChildren(image, [], 'hint')).not.toThrow();
    const children = [{ path: '/x/a.vhd' }, { path: '/x/b.vhd' }];
    expect(() => assertNoChildren(image, children, 'Use --force.')).toThrow(
      expect.objectContaining({
        code: 'IN_USE',
        message: expect.stringContaining('/x/a.vhd and 1 more'),
        hint: 'Use --force.',
        context: { path: image.file.path, children: ['/x/a.vhd', '/x/b.vhd'] },
      }),
    );
  });
});

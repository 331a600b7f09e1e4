/**
 * What other programs make of images that were changed: qemu (which replays our log too) and libvhdi.
 */
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { editVhdx } from '../../../../src/formats/vhdx/edit.js';
import { nodeFileSystem } from '../../../../src/io/node-file-system.js';
import { qemuCheckComplaint, qemuVirtualSize, vhdiComplaint } from '../../../support/independent-readers.js';
import { fuse, lacking } from '../../../support/requires.js';
import { must, run } from '../../../support/run.js';
import { makeTempFolder, testFolder } from '../../../support/tmp.js';
import { CrashScenario, compareSectors, durable, flush, judge } from './edit-crash-kit.js';
import { access, contentOf, newImage, PARENT, PARENTS, put } from './edit-kit.js';

/** The disk's bytes as qemu sees them. */
async function qemuContent(file: string): Promise<Buffer> {
  const raw = `${file}.raw`;
  await must('qemu-img', ['convert', '-f', 'vhdx', '-O', 'raw', file, raw]);
  return fs.readFile(raw);
}

const lacksQemu = lacking('qemu-img', 'qemu-io');

describe.skipIf(lacksQemu)(`qemu and changed images${lacksQemu}`, () => {
  it.each(['dynamic', 'fixed'] as const)('reads a %s image of ours', async (type) => {
    const file = path.join(testFolder(), 'image.vhdx');
    await fs.writeFile(file, (await newImage(type, 20 * MiB)).bytes());
    const image = await editVhdx(await nodeFileSystem.open(file, { writable: true }), access);
    await put(image, 3 * MiB + 512, Buffer.alloc(2 * MiB, 1));
    await image.flush();
    await image.zero(4 * MiB, MiB);
    await put(image, 19 * MiB, Buffer.alloc(MiB, 2));
    await image.resize(25 * MiB);
    await put(image, 24 * MiB, Buffer.alloc(512, 3));
    await image.setType(type === 'fixed' ? 'dynamic' : 'fixed');
    await image.flush();
    const content = await contentOf(image);
    await image.close();
    expect(await qemuCheckComplaint(file, 'vhdx')).toBeUndefined();
    expect(await qemuVirtualSize(file, 'vhdx')).toBe(25 * MiB);
    expect((await qemuContent(file)).equals(content)).toBe(true);
    expect(await vhdiComplaint(file, 25 * MiB)).toBeUndefined();
  });

  it('writes images that can be changed, and takes them back', async () => {
    const file = path.join(testFolder(), 'image.vhdx');
    await must('qemu-img', ['create', '-f', 'vhdx', '-o', 'block_size=1M', file, '12M']);
    await must('qemu-io', ['-f', 'vhdx', '-c', 'write -P 1 1M 3M', file]);
    const image = await editVhdx(await nodeFileSystem.open(file, { writable: true }), access);
    const model = await contentOf(image);
    await put(image, 3 * MiB + 4096, Buffer.alloc(3 * MiB, 2));
    model.fill(2, 3 * MiB + 4096, 6 * MiB + 4096);
    await image.zero(MiB, MiB);
    model.fill(0, MiB, 2 * MiB);
    await image.flush();
    await image.close();
    await must('qemu-io', ['-f', 'vhdx', '-c', 'write -P 3 8M 4k', file]);
    model.fill(3, 8 * MiB, 8 * MiB + 4096);
    expect(await qemuCheckComplaint(file, 'vhdx')).toBeUndefined();
    expect((await qemuContent(file)).equals(model)).toBe(true);
    const again = await vhdxDriver.open(await nodeFileSystem.open(file, {}), {});
    expect((await contentOf(again)).equals(model)).toBe(true);
    const codes = (await again.check()).map(({ code, severity }) => `${severity} ${code}`);
    // The place of the block that became zero: whoever writes next may take it, qemu does not.
    expect(codes).toEqual(['leak VHDX_UNUSED_SPACE']);
    await again.close();
  });

  it('replays our log as we do', async () => {
    const folder = testFolder();
    const image = (await newImage('dynamic', 4 * MiB)).bytes();
    const scenario = await new CrashScenario(image).run([
      (each) => put(each, 4096, Buffer.alloc(4096, 1)),
      flush,
      (each) => put(each, MiB, Buffer.alloc(2 * MiB, 2)),
      (each) => each.zero(0, MiB),
      flush,
      durable((each) => each.resize(6 * MiB)),
      (each) => put(each, 5 * MiB, Buffer.alloc(512, 3)),
      flush,
      durable((each) => each.resize(2 * MiB)),
    ]);
    let dirty = 0;
    for (const state of scenario.states({ every: 5, reorderings: 1, seed: 3 })) {
      const file = path.join(folder, 'state.vhdx');
      const content = await judge(state);
      await fs.writeFile(file, state.bytes);
      const opened = await vhdxDriver.open(await nodeFileSystem.open(file, {}), {});
      dirty += opened.log === 'dirty' ? 1 : 0;
      await opened.close();
      await must('qemu-img', ['check', '-f', 'vhdx', '-r', 'all', file]);
      compareSectors(await qemuContent(file), [content], state.label);
    }
    expect(dirty).toBeGreaterThan(5);
  });
});

const lacksVhdi = lacking('vhdimount') || (fuse ? '' : ' (needs FUSE)');

/** The child's disk as libvhdi sees it: the last of the files that it shows. */
async function vhdiContent(child: string): Promise<Buffer> {
  const mountPoint = makeTempFolder('vhdi');
  await must('vhdimount', [child, mountPoint]);
  try {
    return await fs.readFile(path.join(mountPoint, (await fs.readdir(mountPoint)).sort().at(-1) ?? ''));
  } finally {
    await run('umount', [mountPoint]);
  }
}

describe.skipIf(lacksVhdi)(`libvhdi and children of ours${lacksVhdi}`, () => {
  it('reads sectors of the child and sectors of the parent, before and after the parent moves', async () => {
    const folder = testFolder();
    const size = 5 * MiB;
    const parent = path.join(folder, 'parent.vhdx');
    await fs.writeFile(parent, (await newImage('dynamic', size)).bytes());
    const base = await editVhdx(await nodeFileSystem.open(parent, { writable: true }), access);
    await put(base, 0, Buffer.alloc(size, PARENTS));
    await base.flush();
    await base.close();

    const child = path.join(folder, 'child.vhdx');
    const link = { ...PARENT, ids: [base.linkId] as const, absolutePath: parent };
    await fs.writeFile(child, (await newImage('differencing', size, 512, link)).bytes());
    const image = await editVhdx(await nodeFileSystem.open(child, { writable: true }), access);
    for (const [offset, length, value] of [
      [512, 1024, 1],
      [2 * MiB - 512, MiB + 1024, 2],
      [size - 512, 512, 3],
    ] as const) {
      await put(image, offset, Buffer.alloc(length, value));
    }
    await image.discard(2 * MiB, 4096);
    await image.flush();
    const content = await contentOf(image);
    await image.close();
    expect((await vhdiContent(child)).equals(content)).toBe(true);

    const moved = path.join(folder, 'moved.vhdx');
    await fs.rename(parent, moved);
    const moving = await editVhdx(await nodeFileSystem.open(child, { writable: true }), access);
    await moving.setParent({ ...link, absolutePath: moved, relativePath: 'moved.vhdx' });
    await moving.close();
    expect((await vhdiContent(child)).equals(content)).toBe(true);
  });
});

/**
 * VHDs that vhdkit changed in place, as other programs see them: qemu-img, libvhdi and vhd-lib find what was
 * written, in images of other programs and in our own, at another size, with another parent.
 */
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/base/random.js';
import { openChain } from '../../src/formats/chain.js';
import type { EditableImage } from '../../src/formats/editable-image.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { createImage, editImage, openImage } from '../../src/formats/registry.js';
import { nodeFileSystem } from '../../src/io/node-file-system.js';
import { parentLinkTo } from '../../src/operations/parent-link.js';
import { difference, qemuDifference, sha256 } from '../support/content.js';
import { vhdiComplaint, vhdLibContentHash } from '../support/independent-readers.js';
import { fuse, lacking } from '../support/requires.js';
import { must, run } from '../support/run.js';
import { specimen } from '../support/specimens.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
const access = { clock: systemClock, random: systemRandom };

async function edit(file: string): Promise<EditableImage> {
  return editImage(await nodeFileSystem.open(file, { writable: true }), access);
}

/** The disk's bytes as a sparse file, changed along with the image. */
class Model {
  readonly path: string;
  readonly #descriptor: number;

  constructor(file: string) {
    this.path = file;
    this.#descriptor = openSync(file, 'r+');
  }

  write(bytes: Uint8Array, offset: number): void {
    writeSync(this.#descriptor, bytes, 0, bytes.length, offset);
  }

  resize(size: number): void {
    truncateSync(this.path, size);
  }
}

async function put(image: EditableImage, model: Model, offset: number, bytes: Uint8Array): Promise<void> {
  const write = await image.prepareWrite(offset, bytes.length);
  for (const place of write.places) {
    const from = place.offset - offset;
    await place.file.write(bytes.subarray(from, from + place.length), place.fileOffset);
  }
  await write.commit();
  model.write(bytes, offset);
}

/**
 * Writes and zeros here and there; small pieces and pieces over several blocks. They end at multiples of
 * `unit` sectors.
 */
async function change(image: EditableImage, model: Model, seed: number, unit = 1): Promise<void> {
  const sectors = image.virtualSize / 512;
  let state = seed;
  const next = (bound: number): number => {
    state = (state * 1_103_515_245 + 12_345) & 0x7fff_ffff;
    return Math.floor((state / 0x8000_0000) * bound);
  };
  for (let step = 0; step < 24; step += 1) {
    const first = next(sectors);
    const last = first + 1 + next(step % 3 === 0 ? 9000 : 40);
    const count = Math.min(sectors, Math.ceil(last / unit) * unit) - first;
    if (step % 4 === 3) {
      await image.zero(first * 512, count * 512);
      model.write(Buffer.alloc(count * 512), first * 512);
    } else await put(image, model, first * 512, Buffer.alloc(count * 512, 1 + next(255)));
    if (step % 7 === 6) await image.flush();
  }
  await image.flush();
}

/** The content of a whole chain as our own reader sees it, for comparison with others. */
async function ownContent(file: string, raw: string): Promise<void> {
  const chain = await openChain(nodeFileSystem, file);
  const out = openSync(raw, 'w');
  const buffer = Buffer.alloc(MiB);
  for (let at = 0; at < chain.virtualSize; at += MiB) {
    const part = buffer.subarray(0, Math.min(MiB, chain.virtualSize - at));
    await readDisk(chain, part, at);
    writeSync(out, part, 0, part.length, at);
  }
  closeSync(out);
  await chain.close();
}

async function expectClean(file: string): Promise<void> {
  const image = await openImage(await nodeFileSystem.open(file));
  const found = [...image.warnings, ...(await image.check())];
  await image.close();
  expect(found.filter(({ severity }) => severity !== 'note' && severity !== 'leak')).toEqual([]);
}

async function makeDynamic(file: string, size: number): Promise<void> {
  const pending = await nodeFileSystem.createPending(file);
  const options = { type: 'dynamic' as const, virtualSize: size, ...access };
  await (await createImage(pending.file, 'vhd', options)).flush();
  await pending.publish();
}

async function makeChild(parentFile: string, file: string, size?: number): Promise<void> {
  const parent = await openImage(await nodeFileSystem.open(parentFile));
  const pending = await nodeFileSystem.createPending(file);
  const child = await createImage(pending.file, 'vhd', {
    type: 'differencing',
    virtualSize: size ?? parent.virtualSize,
    parent: { ...parentLinkTo(file, parent), diskId: parent.id },
    ...access,
  });
  await child.flush();
  await pending.publish();
  await parent.close();
}

const lacks = lacking('qemu-img', 'qemu-io', 'vhdiinfo');

describe.skipIf(lacks)(`dynamic VHDs changed in place${lacks}`, () => {
  async function expectSame(file: string, model: Model, size: number): Promise<void> {
    await expectClean(file);
    const a = { path: file, format: 'vpc' };
    expect(await qemuDifference(a, { path: model.path, format: 'raw' })).toBeUndefined();
    expect(await vhdiComplaint(file, size)).toBeUndefined();
    expect(await vhdLibContentHash(file)).toBe(await sha256(model.path));
  }

  function modelOf(folder: string, size: number): Model {
    const file = path.join(folder, 'model.raw');
    writeFileSync(file, '');
    truncateSync(file, size);
    return new Model(file);
  }

  it('made by qemu-img, with blocks packed', async () => {
    const folder = testFolder();
    const file = path.join(folder, 'qemu.vhd');
    const size = 40 * MiB;
    await must('qemu-img', ['create', '-q', '-f', 'vpc', '-o', 'force_size=on', file, String(size)]);
    const writes = ['write -P 7 3M 5M', 'write -P 9 39M 1M', 'write -P 5 0 64k'];
    await must('qemu-io', ['-f', 'vpc', ...writes.flatMap((text) => ['-c', text]), file]);
    const model = modelOf(folder, size);
    model.write(Buffer.alloc(5 * MiB, 7), 3 * MiB);
    model.write(Buffer.alloc(MiB, 9), 39 * MiB);
    model.write(Buffer.alloc(64 * 1024, 5), 0);
    const image = await edit(file);
    await change(image, model, 11);
    await expectSame(file, model, size);
    await image.resize(3 * 1024 * MiB);
    model.resize(3 * 1024 * MiB);
    await put(image, model, 3 * 1024 * MiB - 512, Buffer.alloc(512, 3));
    await image.flush();
    await image.resize(33 * MiB);
    model.resize(33 * MiB);
    await image.close();
    await expectSame(file, model, 33 * MiB);
    // And qemu-io goes on writing into it.
    await must('qemu-io', ['-f', 'vpc', '-c', 'write -P 77 20M 3M', file]);
    model.write(Buffer.alloc(3 * MiB, 77), 20 * MiB);
    await expectSame(file, model, 33 * MiB);
  });

  it('made by vhdkit, then larger than its table had room for', async () => {
    const folder = testFolder();
    const file = path.join(folder, 'own.vhd');
    const size = 48 * MiB;
    await makeDynamic(file, size);
    const model = modelOf(folder, size);
    let image = await edit(file);
    await change(image, model, 5);
    await image.resize(20 * 1024 * MiB);
    await image.close();
    image = await edit(file);
    expect(image.virtualSize).toBe(20 * 1024 * MiB);
    model.resize(20 * 1024 * MiB);
    await put(image, model, 19 * 1024 * MiB, Buffer.alloc(4096, 4));
    await image.flush();
    await image.close();
    await expectClean(file);
    const a = { path: file, format: 'vpc' };
    expect(await qemuDifference(a, { path: model.path, format: 'raw' })).toBeUndefined();
    expect(await vhdiComplaint(file, 20 * 1024 * MiB)).toBeUndefined();
  });

  it('fixed, larger and smaller', async () => {
    const folder = testFolder();
    const file = path.join(folder, 'fixed.vhd');
    const options = 'subformat=fixed,force_size=on';
    await must('qemu-img', ['create', '-q', '-f', 'vpc', '-o', options, file, String(8 * MiB)]);
    const model = modelOf(folder, 8 * MiB);
    const image = await edit(file);
    await change(image, model, 3);
    for (const size of [9 * MiB + 512, 5 * MiB]) {
      await image.resize(size);
      model.resize(size);
      expect(statSync(file).size).toBe(size + 512);
      const a = { path: file, format: 'vpc' };
      expect(await qemuDifference(a, { path: model.path, format: 'raw' })).toBeUndefined();
    }
    await image.close();
  });
});

const lacksFuse = lacking('vhdimount') || (fuse ? '' : ' (needs FUSE)');

/** vhd-lib follows the chain by the parent's name in the header. */
async function vhdLibChainComplaint(file: string): Promise<string | undefined> {
  const { checkVhdChain } = createRequire(import.meta.url)('vhd-lib') as {
    checkVhdChain(handler: object, path: string): Promise<void>;
  };
  const handler = {
    async read(name: string, buffer: Buffer, position: number) {
      const handle = await open(path.resolve('/', name), 'r');
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
      await handle.close();
      return { bytesRead, buffer };
    },
    getSize: async (name: string) => statSync(path.resolve('/', name)).size,
  };
  try {
    await checkVhdChain(handler, file);
    return undefined;
  } catch (error) {
    return String(error);
  }
}

describe.skipIf(lacksFuse)(`differencing VHDs made and changed by vhdkit${lacksFuse}`, () => {
  async function expectChain(file: string, raw: string): Promise<void> {
    await expectClean(file);
    await ownContent(file, raw);
    const mountPoint = makeTempFolder('vhdi');
    await must('vhdimount', [file, mountPoint]);
    try {
      const last = readdirSync(mountPoint).sort().at(-1) ?? '';
      expect(await difference(path.join(mountPoint, last), raw)).toBeUndefined();
    } finally {
      await run('umount', [mountPoint]);
    }
    expect(await vhdLibChainComplaint(file)).toBeUndefined();
  }

  it('read the same in libvhdi, and vhd-lib finds the parents', async () => {
    const folder = testFolder();
    const [base, child, grandchild, raw] = ['base.vhd', 'child.vhd', 'grand child ä.vhd', 'disk.raw'].map(
      (name) => path.join(folder, name),
    ) as [string, string, string, string];
    writeFileSync(raw, '');
    await makeDynamic(base, 24 * MiB);
    const model = new Model(raw);
    for (const [file, parent, seed] of [
      [base, undefined, 1],
      [child, base, 2],
      [grandchild, child, 3],
    ] as const) {
      if (parent) await makeChild(parent, file);
      const image = await edit(file);
      // libvhdi 20210425 takes clear bits behind a set one in the same byte of a bitmap for set ones.
      await change(image, model, seed, 8);
      await image.close();
    }
    const expected = await sha256(raw);
    await expectChain(grandchild, raw);
    expect(await sha256(raw)).toBe(expected);

    // The middle one moves; its child is told, and it is told of its own parent.
    const moved = path.join(folder, 'moved');
    mkdirSync(moved);
    renameSync(child, path.join(moved, 'middle.vhd'));
    for (const [file, parentFile] of [
      [path.join(moved, 'middle.vhd'), base],
      [grandchild, path.join(moved, 'middle.vhd')],
    ] as const) {
      const image = await edit(file);
      const parent = await openImage(await nodeFileSystem.open(parentFile));
      await image.setParent(parentLinkTo(file, parent));
      await parent.close();
      await image.close();
    }
    await expectClean(grandchild);
    await ownContent(grandchild, raw);
    expect(await sha256(raw)).toBe(expected);
    expect(await vhdLibChainComplaint(grandchild)).toBeUndefined();
  });

  it('larger and smaller than their parent', async () => {
    const folder = testFolder();
    const [base, child, raw] = ['base.vhd', 'child.vhd', 'disk.raw'].map((name) =>
      path.join(folder, name),
    ) as [string, string, string];
    writeFileSync(raw, '');
    await makeDynamic(base, 24 * MiB);
    const model = new Model(raw);
    const parent = await edit(base);
    await change(parent, model, 1);
    await put(parent, model, 16 * MiB, Buffer.alloc(8 * MiB, 0x44));
    await parent.flush();
    await parent.close();
    await makeChild(base, child);
    const image = await edit(child);
    await image.resize(17 * MiB);
    await image.resize(19 * MiB, { parentSize: 24 * MiB });
    const out = Buffer.alloc(2 * MiB, 1);
    await readDisk(image, out, 17 * MiB);
    expect(out.every((byte) => byte === 0)).toBe(true);
    expect((await image.locate(17 * MiB, 2 * MiB)).every(({ state }) => state === 'data')).toBe(true);
    await image.resize(20 * 1024 * MiB, { parentSize: 24 * MiB });
    await image.close();
    await expectClean(child);
    expect(await vhdiComplaint(child, 20 * 1024 * MiB)).toBeUndefined();
    expect(await vhdLibChainComplaint(child)).toBeUndefined();
  });
});

const windowsChild = specimen('win8-child.vhd');

describe.skipIf(!windowsChild)('a child made by Windows', () => {
  it('takes another parent, another size and other content, and stays readable', async () => {
    const file = path.join(testFolder(), 'child.vhd');
    copyFileSync(windowsChild ?? '', file);
    const image = await edit(file);
    const link = image.parentLink?.acceptedIds[0] ?? '';
    await image.setParent({
      ids: [link],
      absolutePath: '/images/of/somebody/win8.vhd',
      relativePath: '../of/somebody/win8.vhd',
      modified: Date.UTC(2020, 1, 1),
    });
    await image.resize(8 * 1024 * MiB);
    await image.zero(0, 4 * MiB);
    await image.flush();
    await image.close();
    await expectClean(file);
    const again = await openImage(await nodeFileSystem.open(file));
    expect(again.parentLink?.candidates.map(({ path: name }) => name)).toEqual([
      '..\\of\\somebody\\win8.vhd',
      '\\images\\of\\somebody\\win8.vhd',
      'file:///images/of/somebody/win8.vhd',
      '../of/somebody/win8.vhd',
    ]);
    await again.close();
    expect(await vhdiComplaint(file, 8 * 1024 * MiB)).toBeUndefined();
  });
});

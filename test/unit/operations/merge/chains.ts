/**
 * Chains for merge tests: built of random steps on a disk in memory, beside a plain byte array of what
 * every image shows.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import { systemRandom } from '../../../../src/base/random.js';
import { openChain } from '../../../../src/formats/chain.js';
import type { CreateImageOptions } from '../../../../src/formats/disk-image.js';
import type { EditableImage } from '../../../../src/formats/editable-image.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { createImage, editImage, openImage } from '../../../../src/formats/registry.js';
import type { Host } from '../../../../src/operations/host.js';
import { parentLinkTo } from '../../../../src/operations/parent-link.js';
import { CrashDisk, type CrashState } from '../../../support/crash-disk.js';
import { FakeTimer } from '../../../support/fake-timer.js';

export const SECTOR = 512;

/** A change of an image; places are shares of its size, so that they fit any. */
export interface Step {
  kind: 'write' | 'zero';
  at: number;
  sectors: number;
  fill: number;
}

export interface LinkShape {
  /** Sectors by which the disk differs in size from the one beneath. */
  growth: number;
  steps: readonly Step[];
}

export interface ChainShape {
  format: 'vhd' | 'vhdx';
  /** Bytes. */
  blockSize: number;
  baseType: 'fixed' | 'dynamic';
  /** Of the base, in sectors. */
  sectors: number;
  /** Base first. */
  links: readonly LinkShape[];
}

export interface BuiltChain {
  disk: CrashDisk;
  /** Paths, top first. */
  paths: string[];
  /** What each image shows with all that lies beneath it, top first. */
  contents: Buffer[];
}

const position = fc.double({ min: 0, max: 0.999, noNaN: true });
const sectorCount = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 40 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 3000 }) },
);

/** `most`: largest count of images. */
export function chainShape(format: 'vhd' | 'vhdx', most: number): fc.Arbitrary<ChainShape> {
  const step = fc.record({
    kind: fc.constantFrom('write' as const, 'write' as const, 'zero' as const),
    at: position,
    sectors: sectorCount,
    fill: fc.integer({ min: 1, max: 255 }),
  });
  const growth = fc.oneof(
    { weight: 4, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.integer({ min: -600, max: 1500 }) },
  );
  const link = fc.record({ growth, steps: fc.array(step, { maxLength: 6 }) });
  return fc.record({
    format: fc.constant(format),
    blockSize: format === 'vhd' ? fc.constantFrom(65536, 524288) : fc.constant(1 << 20),
    baseType: fc.constantFrom('fixed' as const, 'dynamic' as const, 'dynamic' as const),
    sectors: fc.integer({ min: 1200, max: 5000 }),
    links: fc.array(link, { minLength: 2, maxLength: most }),
  });
}

/** A host on a disk in memory. */
export function hostOf(disk: CrashDisk): Host {
  return {
    fileSystem: disk.fileSystem(),
    clock: { now: () => 1.7e12 },
    random: systemRandom,
    timer: new FakeTimer(),
  };
}

async function put(image: EditableImage, offset: number, bytes: Uint8Array): Promise<void> {
  const write = await image.prepareWrite(offset, bytes.length);
  for (const place of write.places) {
    const from = place.offset - offset;
    await place.file.write(bytes.subarray(from, from + place.length), place.fileOffset);
  }
  await write.commit();
}

/** Bytes that tell one step from another in every sector. */
function pattern(length: number, fill: number): Buffer {
  const bytes = Buffer.alloc(length, fill);
  for (let at = 0; at < length; at += SECTOR) bytes.writeUInt32LE(at / SECTOR, at);
  return bytes;
}

/** Carries the steps out on an image and on the array. */
export async function change(host: Host, path: string, model: Buffer, steps: readonly Step[]): Promise<void> {
  if (steps.length === 0) return;
  const { clock, random, fileSystem } = host;
  const image = await editImage(await fileSystem.open(path, { writable: true }), { clock, random });
  const total = model.length / SECTOR;
  for (const { kind, at, sectors, fill } of steps) {
    const first = Math.floor(at * total);
    const offset = first * SECTOR;
    const length = Math.min(sectors, total - first) * SECTOR;
    if (kind === 'zero') {
      await image.zero(offset, length);
      model.fill(0, offset, offset + length);
    } else {
      const bytes = pattern(length, fill);
      await put(image, offset, bytes);
      bytes.copy(model, offset);
    }
  }
  await image.flush();
  await image.close();
}

/** Makes an empty image over `parent`, or a base without one. */
export async function addImage(
  where: Host | CrashDisk,
  path: string,
  shape: Pick<ChainShape, 'format' | 'blockSize' | 'baseType'>,
  virtualSize: number,
  parent: string | undefined,
): Promise<void> {
  const { clock, random, fileSystem } = where instanceof CrashDisk ? hostOf(where) : where;
  const pending = await fileSystem.createPending(path);
  const options: CreateImageOptions = { type: shape.baseType, virtualSize, clock, random };
  if (parent !== undefined || shape.baseType === 'dynamic') options.blockSize = shape.blockSize;
  if (parent !== undefined) {
    const image = await openImage(await fileSystem.open(parent));
    options.type = 'differencing';
    options.parent = { ...parentLinkTo(path, image), diskId: image.id };
    await image.close();
  }
  const image = await createImage(pending.file, shape.format, options);
  await image.flush();
  await pending.publish();
}

export async function buildChain(shape: ChainShape): Promise<BuiltChain> {
  const disk = new CrashDisk();
  return { disk, ...(await buildChainIn(hostOf(disk), '/d', shape)) };
}

/** The same in a folder of any file system. */
export async function buildChainIn(
  host: Host,
  folder: string,
  shape: ChainShape,
): Promise<Omit<BuiltChain, 'disk'>> {
  const paths: string[] = [];
  const contents: Buffer[] = [];
  let size = shape.sectors * SECTOR;
  for (const [index, link] of shape.links.entries()) {
    const path = `${folder}/${index}.${shape.format}`;
    if (index > 0) size = Math.max(64, size / SECTOR + link.growth) * SECTOR;
    await addImage(host, path, shape, size, paths[0]);
    const model = Buffer.alloc(size);
    contents[0]?.copy(model);
    await change(host, path, model, link.steps);
    paths.unshift(path);
    contents.unshift(model);
  }
  return { paths, contents };
}

/** What an image shows with everything beneath it. */
export async function contentOf(host: Pick<Host, 'fileSystem'>, path: string): Promise<Buffer> {
  const chain = await openChain(host.fileSystem, path);
  const content = Buffer.alloc(chain.virtualSize);
  await readDisk(chain, content, 0);
  await chain.close();
  return content;
}

/** A disk with the files of a state. */
export function diskOf(state: CrashState): CrashDisk {
  return new CrashDisk(state);
}

/** Says where two contents differ: comparing megabytes with `toEqual` would print them. */
export function expectSame(found: Buffer, wanted: Buffer, what: string): void {
  let at = found.length === wanted.length ? -1 : Math.min(found.length, wanted.length);
  if (!found.equals(wanted)) at = found.findIndex((byte, index) => byte !== wanted[index]);
  expect({ what, length: found.length, differsAt: at }).toEqual({
    what,
    length: wanted.length,
    differsAt: -1,
  });
}

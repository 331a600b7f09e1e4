/**
 * By whatever means the bytes travel, they arrive the same.
 */
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { sha256 } from '../support/content.js';
import { convert } from '../support/convert.js';
import { IMAGE_KINDS } from '../support/image-kinds.js';
import { lacking } from '../support/requires.js';
import { makeSampleDisk, SAMPLE_DISK_TOOLS, type SampleDisk } from '../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const lacks = lacking(...SAMPLE_DISK_TOOLS);

const WAYS: { way: string; args: string[]; env?: Record<string, string> }[] = [
  { way: '--provider buffered', args: ['--provider', 'buffered'] },
  { way: 'VHDKIT_NO_NATIVE=1', args: [], env: { VHDKIT_NO_NATIVE: '1' } },
  { way: '--zeros scan', args: ['--zeros', 'scan'] },
  { way: '--zeros holes', args: ['--zeros', 'holes'] },
  {
    way: '--provider buffered without native calls',
    args: ['--provider', 'buffered'],
    env: { VHDKIT_NO_NATIVE: '1' },
  },
];

describe.skipIf(lacks)(`the means of transport do not change the result${lacks}`, () => {
  let disk: SampleDisk;
  let hash: string;
  let images: string[];

  beforeAll(async () => {
    const folder = makeTempFolder('providers');
    disk = await makeSampleDisk(path.join(folder, 'disk.raw'), { seed: 5 });
    hash = await sha256(disk.path);
    images = [];
    for (const [index, kind] of IMAGE_KINDS.entries()) {
      const image = path.join(folder, `disk-${index}.${kind.extension}`);
      await convert(disk.path, image, kind.vhdkit);
      images.push(image);
    }
  });

  it.each(WAYS)('$way', async ({ args, env }) => {
    const folder = testFolder();
    for (const [index, image] of images.entries()) {
      const raw = path.join(folder, `${index}.raw`);
      await convert(image, raw, args, env);
      expect(await sha256(raw), image).toBe(hash);
    }
    for (const [index, kind] of IMAGE_KINDS.entries()) {
      const image = path.join(folder, `${index}.${kind.extension}`);
      await convert(disk.path, image, [...kind.vhdkit, ...args], env);
      await convert(image, `${image}.raw`);
      expect(await sha256(`${image}.raw`), kind.name).toBe(hash);
    }
  });
});

/**
 * The images in fixtures/ are what their manifest says, and vhdkit reads them so.
 */
import { copyFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../support/content.js';
import { convert } from '../support/convert.js';
import { fixture, fixtures } from '../support/fixtures.js';
import { vhdkitJson } from '../support/in-process.js';
import { testFolder } from '../support/tmp.js';

it('the manifest lists every image of the folder', () => {
  const images = readdirSync(fixture('.')).filter((name) => /\.(vhdx?|raw|img)$/.test(name));
  expect(fixtures().map((image) => image.file)).toEqual(expect.arrayContaining(images));
  expect(images).toHaveLength(fixtures().length);
});

describe.each(fixtures())('$file', ({ file, format, type, virtualSize, sha256: hash, contentSha256 }) => {
  it('is the file that was recorded, and is described so', async () => {
    expect(await sha256(fixture(file))).toBe(hash);
    expect(await vhdkitJson(['info', fixture(file)])).toMatchObject({ format, type, virtualSize });
  });

  it('has the contents recorded, and reading leaves it as it was', async () => {
    const raw = path.join(testFolder(), 'disk.raw');
    await convert(fixture(file), raw);
    expect(await sha256(raw)).toBe(contentSha256);
    expect(await sha256(fixture(file))).toBe(hash);
  });
});

describe.each(fixtures().filter((image) => image.log === 'dirty'))(
  '$file',
  ({ file, sha256: hash, contentSha256 }) => {
    it('has a log that is replayed in memory alone', async () => {
      const copy = path.join(testFolder(), file);
      copyFileSync(fixture(file), copy);
      expect(await vhdkitJson(['info', copy])).toMatchObject({ log: 'dirty' });
      await convert(copy, `${copy}.raw`);
      expect(await sha256(copy)).toBe(hash);
      expect(await sha256(`${copy}.raw`)).toBe(contentSha256);
    });
  },
);

/**
 * Differencing images: the chain is flattened, and a missing or wrong parent is refused by name.
 */
import { copyFileSync, existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../support/content.js';
import { convert } from '../support/convert.js';
import { fixture, fixtures } from '../support/fixtures.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { testFolder } from '../support/tmp.js';
import { writeVhdChild } from '../support/vhd-child.js';

const children = fixtures().filter((image) => image.parent !== undefined);

describe.each(children)('$file', ({ file, parent = '', virtualSize, contentSha256 }) => {
  it('converts to the contents of the whole chain', async () => {
    const raw = path.join(testFolder(), 'disk.raw');
    const report = await convert(fixture(file), raw);
    expect(report.virtualSize).toBe(virtualSize);
    expect(await sha256(raw)).toBe(contentSha256);
  });

  it('is refused without its parent, by the name of the file expected', async () => {
    const folder = testFolder();
    const child = path.join(folder, file);
    const raw = path.join(folder, 'disk.raw');
    copyFileSync(fixture(file), child);
    const result = await vhdkit(['convert', child, raw, '--json']);
    expect(result.status).toBe(1);
    const { error } = JSON.parse(result.stdout) as { error: { code: string; message: string } };
    expect(error.code).toBe('PARENT_MISSING');
    expect(error.message).toContain(parent);
    expect(existsSync(raw)).toBe(false);
  });

  it('is refused over a parent with another id', async () => {
    const folder = testFolder();
    const child = path.join(folder, file);
    copyFileSync(fixture(file), child);
    const stranger = path.join(folder, 'stranger.raw');
    await convert(fixture(parent), stranger);
    await convert(stranger, path.join(folder, parent), ['--type', 'dynamic']);
    const result = await vhdkit(['convert', child, path.join(folder, 'disk.raw'), '--json']);
    expect(result.status).toBe(1);
    const { error } = JSON.parse(result.stdout) as { error: { code: string } };
    expect(error.code).toBe('PARENT_MISMATCH');
  });

  it('shows its chain', async () => {
    const info = await vhdkitJson(['info', fixture(file), '--chain']);
    expect(info).toMatchObject({ type: 'differencing', parent: { status: 'matches' } });
    expect(info.chain).toHaveLength(2);
  });
});

describe('a child of a child', () => {
  it('converts to the contents of the whole chain', async () => {
    const folder = testFolder();
    for (const name of ['disk-qemu.vhd', 'child-partial.vhd'])
      copyFileSync(fixture(name), path.join(folder, name));
    const grandchild = path.join(folder, 'grandchild.vhd');
    writeVhdChild(grandchild, { parent: path.join(folder, 'child-partial.vhd') });
    const raw = path.join(folder, 'disk.raw');
    await convert(grandchild, raw);
    const expected = children.find((image) => image.file === 'child-partial.vhd')?.contentSha256;
    expect(await sha256(raw)).toBe(expected);
  });

  it('that is its own parent is refused, not followed for ever', async () => {
    const folder = testFolder();
    const loop = path.join(folder, 'loop.vhd');
    copyFileSync(fixture('disk-qemu.vhd'), loop);
    // A child of itself: the id it wants is the id it has.
    const uniqueId = Buffer.from('202122232425462788292a2b2c2d2e2f', 'hex');
    writeVhdChild(loop, { parent: loop, uniqueId });
    writeVhdChild(loop, { parent: loop, uniqueId });
    const result = await vhdkit(['convert', loop, path.join(folder, 'disk.raw'), '--json']);
    expect(result.status).toBe(1);
    const { error } = JSON.parse(result.stdout) as { error: { code: string } };
    expect(error.code).toBe('PARENT_LOOP');
  });
});

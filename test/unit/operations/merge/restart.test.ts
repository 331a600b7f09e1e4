/**
 * Taking up merges that were interrupted: the id that was announced, and the images that nothing leads to.
 */
import { describe, expect, it } from 'vitest';
import { openImage } from '../../../../src/formats/registry.js';
import { findLeftovers } from '../../../../src/operations/merge/leftovers.js';
import { merge } from '../../../../src/operations/merge.js';
import { CrashDisk } from '../../../support/crash-disk.js';
import { addImage, type BuiltChain, buildChain, contentOf, expectSame, hostOf } from './chains.js';

async function three(format: 'vhd' | 'vhdx'): Promise<BuiltChain> {
  const links = [1, 2, 3].map((fill) => ({
    growth: 0,
    steps: [{ kind: 'write' as const, at: fill * 0.2, sectors: 300, fill }],
  }));
  const blockSize = format === 'vhd' ? 65536 : 1 << 20;
  return buildChain({ format, blockSize, baseType: 'dynamic', sectors: 2048, links });
}

async function idsOf(disk: CrashDisk, path: string): Promise<{ linkId: string; accepts: readonly string[] }> {
  const image = await openImage(await disk.fileSystem().open(path));
  return { linkId: image.linkId ?? '', accepts: image.parentLink?.acceptedIds ?? [] };
}

describe('a VHDX merge that was interrupted', () => {
  it('goes on with the id that the target has got, and leaves the child with that one alone', async () => {
    const { disk, paths, contents } = await three('vhdx');
    const [child = '', parent = ''] = paths;
    const before = await idsOf(disk, parent);
    disk.start();
    await merge(hostOf(disk), { child });
    let met = 0;
    for (const { state } of disk.states({ reorderings: 0 })) {
      const found = new CrashDisk(state);
      const { accepts } = await idsOf(found, child);
      const { linkId } = await idsOf(found, parent);
      expect(accepts).toContain(linkId);
      if (accepts.length < 2 || linkId === before.linkId) continue;
      met += 1;
      expect(accepts).toEqual([before.linkId, linkId]);
      if (met > 1) continue;
      await merge(hostOf(found), { child });
      expect(await idsOf(found, parent)).toMatchObject({ linkId });
      expect((await idsOf(found, child)).accepts).toEqual([linkId]);
      expectSame(await contentOf(hostOf(found), parent), contents[0] ?? Buffer.of(), 'target');
    }
    expect(met).toBeGreaterThan(0);
    const after = await idsOf(disk, parent);
    expect(after.linkId).not.toBe(before.linkId);
    expect((await idsOf(disk, child)).accepts).toEqual([after.linkId]);
  });

  it('that had nothing to do changes no byte', async () => {
    const { disk, paths } = await three('vhdx');
    const [child = '', parent = ''] = paths;
    await merge(hostOf(disk), { child, delete: true });
    disk.start();
    const links = { format: 'vhdx' as const, blockSize: 1 << 20, baseType: 'dynamic' as const };
    await addImage(disk, '/d/empty.vhdx', links, 2048 * 512, parent);
    const before = disk.files();
    const { bytes, stale } = await merge(hostOf(disk), { child: '/d/empty.vhdx' });
    expect(bytes).toEqual({ shared: 0, kernelCopied: 0, buffered: 0, zeroed: 0 });
    expect(stale).toEqual([]);
    for (const [name, content] of disk.files()) {
      expect({ name, same: before.get(name)?.every((byte, at) => byte === content[at]) }).toEqual({
        name,
        same: true,
      });
    }
  });
});

describe.each(['vhd', 'vhdx'] as const)('images between child and target, %s', (format) => {
  it('are found again after a crash at any instant, and go in the end', async () => {
    const { disk, paths, contents } = await three(format);
    const [child = '', , target = ''] = paths;
    disk.start();
    await merge(hostOf(disk), { child, to: target, delete: true });
    expect([...disk.files().keys()]).toEqual([target]);
    let left = 0;
    const every = Math.ceil(disk.count / 16);
    for (const { state, label } of disk.states({ reorderings: 0, every })) {
      const found = new CrashDisk(state);
      if (found.files().has(child)) {
        const image = await openImage(await found.fileSystem().open(target));
        left += (await findLeftovers(found.fileSystem(), child, image)).length;
        await merge(hostOf(found), { child, to: target, delete: true });
      }
      expect({ label, files: [...found.files().keys()] }).toEqual({ label, files: [target] });
      expectSame(await contentOf(hostOf(found), target), contents[0] ?? Buffer.of(), label);
    }
    expect(left).toBeGreaterThan(0);
  });

  it('can not be merged once more', async () => {
    const { disk, paths, contents } = await three(format);
    const [child = '', middle = '', target = ''] = paths;
    const { stale } = await merge(hostOf(disk), { child, to: target });
    expect(stale).toEqual([middle]);
    await expect(merge(hostOf(disk), { child: middle })).rejects.toMatchObject({ code: 'PARENT_MISMATCH' });
    expectSame(await contentOf(hostOf(disk), target), contents[0] ?? Buffer.of(), 'target');
    // Nor does it keep others from changing the target.
    const again = await merge(hostOf(disk), { child, delete: true });
    expect(again).toMatchObject({ target, stale: [], deleted: [child] });
  });

  it('are not looked for by a record that is damaged, or speaks of others', async () => {
    const { disk, paths } = await three(format);
    const [child = '', middle = '', target = ''] = paths;
    const fileSystem = disk.fileSystem();
    const image = await openImage(await fileSystem.open(target));
    const { linkId: id } = await idsOf(disk, middle);
    const write = async (text: string): Promise<string[]> => {
      const pending = await fileSystem.createPending(`/d/.2.${format}.vhdkit-merge`, { overwrite: true });
      await pending.file.truncate(0);
      await pending.file.write(Buffer.from(text), 0);
      await pending.publish();
      return (await findLeftovers(fileSystem, child, image)).map(({ path }) => path);
    };
    const record = { target: image.linkId, images: [{ path: `1.${format}`, id }] };
    expect(await write(JSON.stringify(record))).toEqual([middle]);
    expect(await write(JSON.stringify({ ...record, target: 'another' }))).toEqual([]);
    expect(await write(JSON.stringify({ ...record, images: [{ path: `0.${format}`, id }] }))).toEqual([]);
    expect(await write(JSON.stringify({ ...record, images: [{ path: 'gone', id }] }))).toEqual([]);
    for (const text of ['', '{', 'null', '[]', '{"target":1}', JSON.stringify(record).slice(0, -3)]) {
      expect(await write(text)).toEqual([]);
    }
  });
});

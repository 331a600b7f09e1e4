/**
 * Files that an interrupted run leaves behind, and a later one takes up.
 */
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nodeFileSystem } from '../../../src/io/node-file-system.js';
import { testFolder } from '../../support/tmp.js';

describe('a resumable file', () => {
  it('is taken up with its journal', async () => {
    const folder = testFolder();
    const path = join(folder, 'disk.img');
    const first = await nodeFileSystem.openResumable(path, { resume: true });
    expect(first.journal).toBeUndefined();
    await first.file.write(Buffer.from('half'), 0);
    await first.record('one');
    await first.record('two');
    await first.keep();
    expect(await nodeFileSystem.kind(path)).toBe('absent');
    const second = await nodeFileSystem.openResumable(path, { resume: true });
    expect(second.journal).toBe('two');
    expect(second.file.size()).toBe(4);
    await second.file.write(Buffer.from('done'), 4);
    await second.publish();
    expect(await fs.readFile(path, 'utf8')).toBe('halfdone');
    expect(await fs.readdir(folder)).toEqual(['disk.img']);
  });

  it('starts from nothing when not asked to resume, and when there is no journal', async () => {
    const folder = testFolder();
    const path = join(folder, 'disk.img');
    for (const journal of ['something', undefined]) {
      const first = await nodeFileSystem.openResumable(path);
      await first.file.write(Buffer.from('half'), 0);
      if (journal !== undefined) await first.record(journal);
      await first.keep();
      const second = await nodeFileSystem.openResumable(path, { resume: journal === undefined });
      expect(second.journal).toBeUndefined();
      expect(second.file.size()).toBe(0);
      await second.discard();
      expect(await fs.readdir(folder)).toEqual([]);
    }
  });

  it('is one process’s at a time', async () => {
    const path = join(testFolder(), 'disk.img');
    const first = await nodeFileSystem.openResumable(path);
    await expect(nodeFileSystem.openResumable(path)).rejects.toMatchObject({ code: 'IN_USE' });
    await first.discard();
    await (await nodeFileSystem.openResumable(path)).discard();
  });

  it('forgets what was there on restart', async () => {
    const folder = testFolder();
    const path = join(folder, 'disk.img');
    const first = await nodeFileSystem.openResumable(path, { resume: true });
    await first.file.write(Buffer.from('half'), 0);
    await first.record('one');
    await first.restart();
    expect(first.file.size()).toBe(0);
    await first.keep();
    const second = await nodeFileSystem.openResumable(path, { resume: true });
    expect(second.journal).toBeUndefined();
    await second.discard();
  });

  it('that has its name already is complete: a run killed at that moment leaves nothing to go on with', async () => {
    const folder = testFolder();
    const path = join(folder, 'disk.img');
    const first = await nodeFileSystem.openResumable(path, { resume: true });
    await first.file.write(Buffer.from('complete'), 0);
    await first.record('one');
    const [hidden = ''] = (await fs.readdir(folder)).filter((name) => name.endsWith('partial'));
    await fs.link(join(folder, hidden), path);
    await first.keep();
    const second = await nodeFileSystem.openResumable(path, { resume: true, overwrite: true });
    expect(second.journal).toBeUndefined();
    await second.file.write(Buffer.from('new'), 0);
    expect(await fs.readFile(path, 'utf8')).toBe('complete');
    await second.publish();
    expect(await fs.readFile(path, 'utf8')).toBe('new');
    expect(await fs.readdir(folder)).toEqual(['disk.img']);
  });

  it('has a short hidden name however long the target’s is', async () => {
    const folder = testFolder();
    const path = join(folder, `${'x'.repeat(250)}.img`.slice(-255));
    const file = await nodeFileSystem.openResumable(path);
    await file.record('journal');
    await file.publish();
    expect(await fs.readdir(folder)).toHaveLength(1);
  });

  it('does not clobber what appeared meanwhile, and cleans up after itself', async () => {
    const folder = testFolder();
    const path = join(folder, 'disk.img');
    const file = await nodeFileSystem.openResumable(path);
    await fs.writeFile(path, 'somebody else');
    await expect(file.publish()).rejects.toMatchObject({ code: 'ALREADY_EXISTS' });
    expect(await fs.readFile(path, 'utf8')).toBe('somebody else');
    expect(await fs.readdir(folder)).toEqual(['disk.img']);
  });
});

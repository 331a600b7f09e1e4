import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../../support/content.js';
import { parseFilefrag } from '../../support/fiemap.js';
import { mountedFileSystem, releaseAll } from '../../support/mounts.js';
import { canMount, lacking } from '../../support/requires.js';
import { run } from '../../support/run.js';
import { checkPartition, makeSampleDisk, SAMPLE_DISK_TOOLS, seededBytes } from '../../support/sample-disk.js';
import { makeTempFolder, testFolder } from '../../support/tmp.js';

const lacks = lacking(...SAMPLE_DISK_TOOLS, 'e2fsck');

describe.skipIf(lacks)(`sample disk${lacks}`, () => {
  it('gives the same bytes for the same seed, and a file system that e2fsck accepts', async () => {
    const folder = testFolder();
    const first = await makeSampleDisk(path.join(folder, 'a.raw'), { sizeMiB: 16, payloadMiB: 2 });
    // File systems keep times in seconds: the second disk must not depend on when it was made.
    await new Promise((resolve) => setTimeout(resolve, 1100));
    const second = await makeSampleDisk(path.join(folder, 'b.raw'), { sizeMiB: 16, payloadMiB: 2 });
    const other = await makeSampleDisk(path.join(folder, 'c.raw'), { sizeMiB: 16, payloadMiB: 2, seed: 2 });
    expect(await sha256(second.path)).toBe(await sha256(first.path));
    expect(await sha256(other.path)).not.toBe(await sha256(first.path));
    await checkPartition(first.path, first.partition);
  });
});

describe('seeded bytes', () => {
  it('have the length asked for, repeat for a seed and differ between seeds', () => {
    expect(seededBytes(1001, 7)).toHaveLength(1001);
    expect(seededBytes(1000, 7).equals(seededBytes(1001, 7).subarray(0, 1000))).toBe(true);
    const starts = Array.from({ length: 100 }, (_, seed) => seededBytes(64, seed).toString('hex'));
    expect(new Set(starts).size).toBe(100);
  });
});

describe('filefrag table', () => {
  it('counts shared and own bytes and leaves unwritten extents out', () => {
    const table = [
      ' ext:     logical_offset:        physical_offset: length:   expected: flags:',
      '   0:        0..       7:        192..       199:      8:             shared',
      '   1:      256..     266:    5937434..   5937444:     11:        200:',
      '   2:      267..     268:    5937158..   5937159:      2:    5937445: last,shared,eof',
      '   3:      269..     300:    5937159..   5937190:     32:             unwritten',
    ].join('\n');
    expect(parseFilefrag(table, 512)).toEqual({ shared: 10 * 512, own: 11 * 512 });
  });
});

describe.skipIf(!canMount('tmpfs'))('mounts (need root)', () => {
  it('are given back even when the test that made them never did', async () => {
    const mounted = mountedFileSystem('tmpfs', 8);
    const folder = path.dirname(mounted?.path ?? makeTempFolder());
    const isMounted = async () => (await run('mountpoint', ['-q', path.join(folder, 'mnt')])).status === 0;
    expect(await isMounted()).toBe(true);
    expect(releaseAll(folder)).toEqual([]);
    expect(await isMounted()).toBe(false);
  });
});

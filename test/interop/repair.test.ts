/** Images of other programs, damaged and repaired: other programs accept them and see what they saw. */
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { convert } from '../../src/operations/convert.js';
import { systemHost } from '../../src/operations/host.js';
import { undoRepair } from '../../src/operations/repair/undo.js';
import { type RepairResult, repair } from '../../src/operations/repair.js';
import { sha256 } from '../support/content.js';
import { qemuCheckComplaint, vhdiComplaint } from '../support/independent-readers.js';
import { tool } from '../support/requires.js';
import { must } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { specimen } from '../support/specimens.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
/** Cylinders of Virtual PC fit exactly into this: qemu-img does not round it. */
const SIZE = 17 * 4 * 512 * 600;
const host = systemHost();
let folder: string;
const at = (name: string): string => path.join(folder, name);

function all(file: string): Promise<RepairResult> {
  return repair(host, { path: file, level: 'all' });
}

/** A copy of an image with some bytes changed. */
function damaged(name: string, change: (bytes: Buffer) => unknown): string {
  const file = path.join(testFolder('repair'), name);
  const bytes = readFileSync(at(name));
  const changed = change(bytes);
  writeFileSync(file, Buffer.isBuffer(changed) ? changed : bytes);
  return file;
}

async function seesTheSame(a: string, b: string): Promise<void> {
  await must('qemu-img', ['compare', a, b]);
}

describe.skipIf(!tool('qemu-img'))('images of qemu-img', () => {
  beforeAll(async () => {
    folder = makeTempFolder('repair');
    const disk = Buffer.alloc(SIZE);
    seededBytes(5 * MiB, 3).copy(disk, 2 * MiB);
    seededBytes(2 * MiB, 4).copy(disk, 12 * MiB);
    writeFileSync(at('disk.raw'), disk);
    await must('qemu-img', ['convert', '-O', 'vpc', '-o', 'force_size=on', at('disk.raw'), at('disk.vhd')]);
    await must('qemu-img', ['convert', '-O', 'vhdx', '-o', 'block_size=1M', at('disk.raw'), at('disk.vhdx')]);
  });

  it('a VHD without its footer at the end', async () => {
    const file = damaged('disk.vhd', (bytes) => bytes.subarray(0, bytes.length - 512));
    expect(await all(file)).toMatchObject({ verdict: 'clean', dropped: [], refused: [] });
    await seesTheSame(file, at('disk.vhd'));
    if (tool('vhdiinfo')) expect(await vhdiComplaint(file, SIZE)).toBeUndefined();
  });

  it('a VHD with a lost entry: its space is given back, the rest is the same', async () => {
    const file = damaged('disk.vhd', (bytes) => {
      bytes.writeUInt32BE(0x00ff_ffff, Number(bytes.readBigUInt64BE(512 + 16)) + 4 * 4);
    });
    const before = readFileSync(file);
    const result = await all(file);
    expect(result).toMatchObject({ verdict: 'clean', refused: [], dropped: [{ block: 4 }] });
    const raw = path.join(path.dirname(file), 'after.raw');
    await must('qemu-img', ['convert', '-f', 'vpc', '-O', 'raw', file, raw]);
    const expected = readFileSync(at('disk.raw')).fill(0, 8 * MiB, 10 * MiB);
    expect(Buffer.compare(readFileSync(raw), expected)).toBe(0);
    expect(readFileSync(file).length).toBeLessThanOrEqual(before.length);
    await undoRepair(host, { path: file, backup: result.backup ?? '' });
    expect(Buffer.compare(readFileSync(file), before)).toBe(0);
  });

  it('a VHDX with one header and one region table, and a block in two places', async () => {
    const file = damaged('disk.vhdx', (bytes) => {
      bytes.fill(1, 64 * 1024 + 100, 64 * 1024 + 200).fill(1, 192 * 1024 + 4, 192 * 1024 + 8);
    });
    expect(await all(file)).toMatchObject({ verdict: 'clean', dropped: [], refused: [] });
    expect(await qemuCheckComplaint(file, 'vhdx')).toBeUndefined();
    await seesTheSame(file, at('disk.vhdx'));
  });

  it('a VHDX whose end is missing', async () => {
    const file = damaged('disk.vhdx', (bytes) => bytes);
    truncateSync(file, readFileSync(file).length - 2 * MiB - 4096);
    const result = await all(file);
    expect(result).toMatchObject({ verdict: 'clean', refused: [] });
    expect(result.dropped).toHaveLength(2);
    expect(await qemuCheckComplaint(file, 'vhdx')).toBeUndefined();
  });

  it('an image that another program writes is left alone', async () => {
    const file = damaged('disk.vhdx', (bytes) => bytes.fill(1, 64 * 1024 + 100, 64 * 1024 + 200));
    const lock = await host.fileSystem.lock(file);
    await expect(all(file)).rejects.toMatchObject({ code: 'IN_USE' });
    await lock.release();
  });
});

const dirty = specimen('vhdx-log-replay.vhdx');

describe.skipIf(dirty === undefined || !tool('qemu-img'))('specimen vhdx-log-replay.vhdx', () => {
  it('is replayed for good, as qemu-img does it', async () => {
    const own = testFolder('repair');
    const [ours, theirs] = [path.join(own, 'ours.vhdx'), path.join(own, 'theirs.vhdx')];
    for (const file of [ours, theirs]) copyFileSync(dirty ?? '', file);
    const result = await all(ours);
    expect(result.repaired.map(({ code }) => code)).toContain('VHDX_LOG_DIRTY');
    expect(result).toMatchObject({ verdict: 'clean', dropped: [], refused: [] });
    await must('qemu-img', ['check', '-r', 'all', '-f', 'vhdx', theirs]);
    expect(await qemuCheckComplaint(ours, 'vhdx')).toBeUndefined();
    await seesTheSame(ours, theirs);
    const raw = path.join(own, 'disk.raw');
    await convert(host, { source: ours, target: raw });
    expect((await sha256(raw)).slice(0, 16)).toBe('3ba3b309425b7ff5');
  });
});

describe('giving much space back', () => {
  it('saves the tables only, says so, and is not undone', async () => {
    const own = testFolder('repair');
    const [raw, file] = [path.join(own, 'disk.raw'), path.join(own, 'disk.vhdx')];
    writeFileSync(raw, seededBytes(3 * MiB, 8));
    await convert(host, { source: raw, target: file, blockSize: MiB });
    const sound = readFileSync(file).length;
    truncateSync(file, sound + 400 * MiB);
    const result = await repair(host, { path: file, level: 'leaks' });
    expect(result).toMatchObject({ verdict: 'clean', refused: [], findings: [] });
    expect(result.repaired.map(({ code }) => code)).toEqual(['VHDX_UNUSED_SPACE']);
    const backup = result.backup ?? '';
    expect([readFileSync(file).length, readFileSync(backup).length < 4 * MiB]).toEqual([sound, true]);
    expect(readFileSync(backup, 'utf8')).toContain('"blocksMoved":true');
    await expect(undoRepair(host, { path: file, backup })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    const after = path.join(own, 'after.raw');
    await convert(host, { source: file, target: after });
    expect(await sha256(after)).toBe(await sha256(raw));
  });
});

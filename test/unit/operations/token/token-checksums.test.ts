/** Checksum tokens: the target is verified without the source, whatever happened to either. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { create } from '../../../../src/operations/create.js';
import { showTokens } from '../../../../src/operations/token/show.js';
import { write } from '../../../../src/operations/write.js';
import { type MountedFileSystem, mountNew } from '../../../support/mounts.js';
import { canMount } from '../../../support/requires.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { makeTempFolder } from '../../../support/tmp.js';
import { atStage, forget, poke, TokenKit } from '../../../support/token-kit.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const data = seededBytes(8 * MiB + 5 * KiB, 1);
let kit: TokenKit;

function sparse(name: string, size: number): void {
  writeFileSync(kit.at(name), '');
  truncateSync(kit.at(name), size);
}

beforeEach(() => {
  kit = new TokenKit(makeTempFolder('token-checksums'));
  writeFileSync(kit.at('a.img'), data);
  sparse('lun.img', 16 * MiB);
});

describe('checksum tokens', () => {
  it('go along in the token file, and the target is verified', async () => {
    const made = await kit.read('a.img', 't.tok', { checksum: true });
    expect(made).toMatchObject({ auxiliary: 1, hashBlock: null, sums: kit.at('t.tok.sums') });
    expect(readFileSync(kit.at('t.tok'))).toHaveLength(1024);
    const { verified } = await kit.write('t.tok', 'lun.img', { offset: MiB });
    expect(verified).toEqual({ checked: data.length, unchecked: 0 });
    // Little data needs no third file.
    const small = await kit.read('a.img', 'small.tok', { checksum: true, length: 4 * MiB });
    expect(small.sums).toBeNull();
    expect((await kit.write('small.tok', 'lun.img')).verified).toEqual({ checked: 4 * MiB, unchecked: 0 });
    expect(readdirSync(kit.folder).sort()).toEqual(['a.img', 'lun.img', 'small.tok', 't.tok', 't.tok.sums']);
  });

  it('a cut range is verified as far as whole chunks lie in it', async () => {
    await kit.read('a.img', 't.tok', { checksum: true });
    const part = { tokenOffset: 512, length: 200 * KiB };
    const { verified } = await kit.write('t.tok', 'lun.img', part);
    expect(verified).toEqual({ checked: 128 * KiB, unchecked: 72 * KiB });
    expect((await kit.write('t.tok', 'lun.img', { ...part, verify: false })).verified).toBeNull();
    expect((await kit.write('t.tok', 'lun.img', { ...part, dryRun: true })).verified).toBeNull();
  });

  it('damage between writing and verifying is found, named and counted', async () => {
    await kit.read('a.img', 't.tok', { checksum: true });
    const damage = () => {
      for (const at of [MiB + 5 * 64 * KiB + 77, MiB + data.length - 1])
        poke(kit.at('lun.img'), at, Uint8Array.of((data[at - MiB] ?? 0) ^ 1));
    };
    const writing = kit.write('t.tok', 'lun.img', { offset: MiB, onStage: atStage('verify', damage) });
    await expect(writing).rejects.toMatchObject({
      code: 'VERIFY_FAILED',
      context: {
        reason: 'mismatch',
        chunk: 5,
        range: 0,
        offset: MiB + 320 * KiB,
        length: 64 * KiB,
        wrong: 2,
      },
    });
    await expect(kit.verify('t.tok', 'lun.img', { offset: MiB })).rejects.toMatchObject({
      code: 'VERIFY_FAILED',
    });
    const first = { offset: MiB, length: 320 * KiB };
    expect((await kit.verify('t.tok', 'lun.img', first)).verified.checked).toBe(320 * KiB);
    expect(await kit.store.refusals()).toEqual({ mismatch: 2 });
  });

  it('the source may be gone when a disk is verified', async () => {
    await kit.read('a.img', 't.tok', { checksum: true });
    await kit.write('t.tok', 'lun.img');
    rmSync(kit.at('a.img'));
    expect((await kit.verify('t.tok', 'lun.img')).verified.checked).toBe(data.length);
    await expect(kit.write('t.tok', 'lun.img')).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
  });

  it('of an image in many pieces, tokens may be taken out and ordered anew', async () => {
    await create(kit.host, { path: kit.at('a.vhdx'), size: 16 * MiB, blockSize: MiB });
    for (const [offset, length] of [
      [0, MiB],
      [5 * MiB, 2 * MiB],
      [9 * MiB, 100 * KiB],
    ] as const)
      await write(kit.host, {
        path: kit.at('a.vhdx'),
        offset,
        input: Readable.from([data.subarray(0, length)]),
      });
    await create(kit.host, { path: kit.at('b.vhd'), size: 16 * MiB });
    const { tokens } = await kit.read('a.vhdx', 't.tok', { checksum: true });
    expect(tokens.filter(({ state }) => state === 'data').length).toBeGreaterThan(1);
    const { verified } = await kit.write('t.tok', 'b.vhd');
    expect(verified).toEqual({ checked: 16 * MiB, unchecked: 0 });

    const sidecar = JSON.parse(readFileSync(kit.at('t.tok.json'), 'utf8')) as {
      ranges: { token: number; offset: number; length: number }[];
    };
    let end = 0;
    sidecar.ranges = sidecar.ranges
      .reverse()
      .slice(1)
      .map((range) => {
        end += range.length;
        return { ...range, offset: end - range.length };
      });
    writeFileSync(kit.at('t.tok.json'), JSON.stringify(sidecar));
    expect((await kit.write('t.tok', 'b.vhd')).verified).toEqual({ checked: end, unchecked: 0 });
  });
});

describe('what is not genuine', () => {
  const refused = (reason: string) => ({ code: 'TOKEN_INVALID', context: { reason } });

  beforeEach(async () => {
    await kit.read('a.img', 't.tok', { checksum: true });
  });

  it('is refused before anything is written, unless nothing is to be verified', async () => {
    const tokens = readFileSync(kit.at('t.tok'));
    for (const at of [512 + 3, 512 + 130, 512 + 511]) {
      const altered = Buffer.from(tokens);
      altered[at] = (altered[at] ?? 0) ^ 8;
      writeFileSync(kit.at('t.tok'), altered);
      await expect(kit.write('t.tok', 'lun.img')).rejects.toMatchObject(refused('forged'));
    }
    const other = new TokenKit(kit.folder);
    await other.read('a.img', 'other.tok', { checksum: true });
    writeFileSync(
      kit.at('t.tok'),
      Buffer.concat([tokens.subarray(0, 512), readFileSync(kit.at('other.tok')).subarray(512)]),
    );
    await expect(kit.write('t.tok', 'lun.img')).rejects.toMatchObject(refused('foreign'));
    expect(readFileSync(kit.at('lun.img')).every((byte) => byte === 0)).toBe(true);
    expect(await kit.store.refusals()).toEqual({ forged: 3, foreign: 1 });
    expect((await kit.write('t.tok', 'lun.img', { verify: false })).verified).toBeNull();
  });

  it('sums that are missing, damaged or of other tokens are refused', async () => {
    const sums = readFileSync(kit.at('t.tok.sums'));
    await kit.read('a.img', 'other.tok', { checksum: true, offset: 512 });
    for (const wrong of [
      sums.map((byte, at) => (at === 300 ? byte ^ 1 : byte)),
      readFileSync(kit.at('other.tok.sums')),
    ]) {
      writeFileSync(kit.at('t.tok.sums'), wrong);
      await expect(kit.write('t.tok', 'lun.img')).rejects.toMatchObject(refused('malformed'));
    }
    rmSync(kit.at('t.tok.sums'));
    await expect(kit.write('t.tok', 'lun.img')).rejects.toMatchObject(refused('malformed'));
    expect(readFileSync(kit.at('lun.img')).every((byte) => byte === 0)).toBe(true);
  });

  it('auxiliary tokens of unknown kinds are passed on', async () => {
    const strange = Buffer.alloc(512, 0x33);
    strange.writeUInt32BE(0xfffffff9, 0);
    strange.writeUInt16BE(0x1f8, 6);
    writeFileSync(kit.at('t.tok'), Buffer.concat([readFileSync(kit.at('t.tok')), strange]));
    expect((await kit.write('t.tok', 'lun.img')).verified?.checked).toBe(data.length);
    const { auxiliary } = await showTokens(kit.host, { tokens: kit.at('t.tok'), store: kit.store });
    expect(auxiliary).toEqual([
      { kind: 'checksum', state: 'valid', token: 0, blockSize: 64 * KiB, sums: 129, beside: true },
      { kind: 'unknown', state: 'unknown', token: null, blockSize: null, sums: null, beside: null },
    ]);
  });

  it('a source that changes while it is read leaves no tokens', async () => {
    const progress = { update: () => poke(kit.at('a.img'), 0, Uint8Array.of(1)) };
    const reading = kit.read('a.img', 'new.tok', { checksum: true, progress });
    await expect(reading).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
    expect(readdirSync(kit.folder).filter((name) => name.includes('new'))).toEqual([]);
  });
});

describe.skipIf(!canMount('xfs'))('on storage that shares extents', () => {
  let xfs: MountedFileSystem;
  beforeAll(() => {
    xfs = mountNew('xfs');
    return () => xfs.unmount();
  });

  it('no byte is copied, and nothing of the source is read to verify the target', async () => {
    kit = new TokenKit(xfs.path);
    writeFileSync(kit.at('a.img'), data.subarray(0, 8 * MiB));
    sparse('lun.img', 8 * MiB);
    await kit.read('a.img', 't.tok', { checksum: true });
    expect(kit.reads.get('a.img')).toBeGreaterThanOrEqual(8 * MiB);
    kit.reads.clear();
    const { bytes, verified } = await kit.write('t.tok', 'lun.img');
    expect(bytes).toEqual({ shared: 8 * MiB, kernelCopied: 0, buffered: 0, zeroed: 0 });
    expect(verified).toEqual({ checked: 8 * MiB, unchecked: 0 });
    expect(kit.reads.get('a.img') ?? 0).toBe(0);
    expect(kit.reads.get('lun.img')).toBeGreaterThanOrEqual(8 * MiB);
  });

  it('a byte that went bad on the disk, after the tokens were made, is found', async () => {
    kit = new TokenKit(xfs.path);
    writeFileSync(kit.at('rot.img'), data.subarray(0, 2 * MiB));
    sparse('to.img', 2 * MiB);
    await kit.read('rot.img', 'rot.tok', { checksum: true });
    const { stdout } = spawnSync('filefrag', ['-s', '-v', '-b4096', kit.at('rot.img')], { encoding: 'utf8' });
    const physical = Number(/^\s*0:\s*0\.\.\s*\d+:\s*(\d+)\.\./m.exec(stdout)?.[1]) * 4096;
    expect(physical).toBeGreaterThan(0);
    forget(kit.at('rot.img'));
    const where = 64 * KiB + 9;
    poke(
      path.join(path.dirname(xfs.path), 'image'),
      physical + where,
      Uint8Array.of((data[where] ?? 0) ^ 0x80),
    );
    await expect(kit.write('rot.tok', 'to.img')).rejects.toMatchObject({
      code: 'VERIFY_FAILED',
      context: { chunk: 1, offset: 64 * KiB, wrong: 1 },
    });
    expect(existsSync(kit.at('rot.img'))).toBe(true);
  });
});

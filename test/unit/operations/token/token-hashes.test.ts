/** Hash tokens: data is taken from whoever has it, and only if it is that data at that moment. */
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { convert } from '../../../../src/operations/convert.js';
import { create } from '../../../../src/operations/create.js';
import { listTokens } from '../../../../src/operations/token/show.js';
import { write } from '../../../../src/operations/write.js';
import { fileExtents } from '../../../support/fiemap.js';
import { type FileSystemKind, type MountedFileSystem, mountNew } from '../../../support/mounts.js';
import { canMount } from '../../../support/requires.js';
import { must } from '../../../support/run.js';
import { seededBytes } from '../../../support/sample-disk.js';
import { makeTempFolder } from '../../../support/tmp.js';
import { atStage, poke, TokenKit } from '../../../support/token-kit.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const BLOCK = 64 * KiB;
const SIZE = 4 * MiB;
const data = seededBytes(SIZE, 1);
const BAD = Uint8Array.of(1, 2, 3, 4);
let kit: TokenKit;

function sparse(name: string, size: number): void {
  writeFileSync(kit.at(name), '');
  truncateSync(kit.at(name), size);
}

const content = (name: string): Buffer => readFileSync(kit.at(name)).subarray(0, SIZE);
const have = (...names: string[]) => ({ have: names.map((name) => kit.at(name)) });

/** A disk, an older copy with one other block, tokens with hashes, and a target. */
async function prepare(): Promise<void> {
  writeFileSync(kit.at('a.img'), data);
  writeFileSync(kit.at('old.img'), data);
  poke(kit.at('old.img'), 10 * BLOCK + 5, BAD);
  sparse('lun.img', SIZE);
  await kit.read('a.img', 't.tok', { hash: true });
}

const KINDS = (['xfs', 'tmpfs'] as const).filter((kind) => canMount(kind));
const mounts = new Map<FileSystemKind, MountedFileSystem>();
afterAll(() => {
  for (const mount of mounts.values()) mount.unmount();
});

function folderOn(kind: FileSystemKind | undefined): string {
  if (kind === undefined) return makeTempFolder('token-hashes');
  const mount = mounts.get(kind) ?? mountNew(kind);
  mounts.set(kind, mount);
  for (const name of readdirSync(mount.path)) rmSync(`${mount.path}/${name}`, { recursive: true });
  return mount.path;
}

// Storage that shares extents gives candidates that nobody can change; elsewhere each block is looked at again.
describe.each(KINDS.length > 0 ? KINDS : [undefined])('images that have the data, on %s', (kind) => {
  const fixed = kind === 'xfs';

  beforeEach(async () => {
    kit = new TokenKit(folderOn(kind));
    await prepare();
  });

  it('serve as far as they have it, the token serves the rest', async () => {
    const { reused, bytes } = await kit.write('t.tok', 'lun.img', have('old.img'));
    expect(reused).toBe(SIZE - BLOCK);
    expect(content('lun.img').equals(data)).toBe(true);
    if (fixed) expect(bytes).toEqual({ shared: SIZE, kernelCopied: 0, buffered: 0, zeroed: 0 });
  });

  it('serve without any valid token when all blocks are found, the source itself too', async () => {
    poke(kit.at('a.img'), 3 * BLOCK, BAD);
    const missing = kit.write('t.tok', 'lun.img', have('old.img'));
    await expect(missing).rejects.toMatchObject({ code: 'SOURCE_CHANGED', context: { missing: 1 } });
    expect(content('lun.img').every((byte) => byte === 0)).toBe(true);
    const { reused } = await kit.write('t.tok', 'lun.img', have('old.img', 'a.img'));
    expect(reused).toBe(SIZE);
    expect(content('lun.img').equals(data)).toBe(true);
  });

  it('may change while they are used: the target holds the right data or the write fails', async () => {
    const spoil = atStage('write', () => {
      poke(kit.at('old.img'), 20 * BLOCK, BAD);
      poke(kit.at('old.img'), 40 * BLOCK, BAD);
    });
    const { reused } = await kit.write('t.tok', 'lun.img', { ...have('old.img'), onStage: spoil });
    expect(content('lun.img').equals(data)).toBe(true);
    expect(reused).toBe(fixed ? SIZE - BLOCK : SIZE - 3 * BLOCK);
  });

  it('may change when there is no valid token any more', async () => {
    writeFileSync(kit.at('old.img'), data);
    rmSync(kit.at('a.img'));
    const spoil = atStage('write', () => poke(kit.at('old.img'), 20 * BLOCK, BAD));
    const writing = kit.write('t.tok', 'lun.img', { ...have('old.img'), onStage: spoil });
    if (fixed) {
      expect((await writing).reused).toBe(SIZE);
      expect(content('lun.img').equals(data)).toBe(true);
    } else await expect(writing).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
  });

  it('the target itself may be one of them', async () => {
    writeFileSync(kit.at('lun.img'), readFileSync(kit.at('old.img')));
    const { reused } = await kit.write('t.tok', 'lun.img', have('lun.img'));
    expect(content('lun.img').equals(data)).toBe(true);
    expect(reused).toBe(SIZE - BLOCK);
  });

  it('nothing is left of the search', async () => {
    await kit.write('t.tok', 'lun.img', have('old.img'));
    expect(readdirSync(kit.folder).sort()).toEqual(['a.img', 'lun.img', 'old.img', 't.tok', 't.tok.sums']);
  });
});

describe('hash tokens', () => {
  beforeEach(async () => {
    kit = new TokenKit(makeTempFolder('token-hashes'));
    await prepare();
  });

  it('are found in other formats, at other offsets, in cut ranges and in larger blocks', async () => {
    await convert(kit.host, { source: kit.at('a.img'), target: kit.at('old.vhdx') });
    rmSync(kit.at('old.img'));
    await kit.read('a.img', 'part.tok', { hash: true, hashBlock: 256 * KiB, offset: 512 * KiB + 512 });
    poke(kit.at('a.img'), 0, BAD);
    const range = { tokenOffset: 256 * KiB - 512, length: 512 * KiB };
    const { reused } = await kit.write('part.tok', 'lun.img', { ...range, ...have('old.vhdx') });
    expect(reused).toBe(512 * KiB);
    expect(
      content('lun.img')
        .subarray(0, 512 * KiB)
        .equals(data.subarray(768 * KiB, 1280 * KiB)),
    ).toBe(true);
    // A block that the range cuts is nobody's.
    const cut = kit.write('part.tok', 'lun.img', { ...range, length: 500 * KiB, ...have('old.vhdx') });
    await expect(cut).rejects.toMatchObject({ code: 'SOURCE_CHANGED' });
  });

  it('need no store: blocks are found with another one, and long after the tokens ended', async () => {
    const other = new TokenKit(kit.folder);
    writeFileSync(kit.at('old.img'), data);
    expect((await other.write('t.tok', 'lun.img', have('old.img'))).reused).toBe(SIZE);
    expect(content('lun.img').equals(data)).toBe(true);
    expect((await listTokens(other.host, { store: other.store })).tokens).toEqual([]);
  });

  it('blocks of zeros are made, wherever the data is', async () => {
    sparse('zeros.img', SIZE);
    poke(kit.at('zeros.img'), 0, new Uint8Array(SIZE));
    poke(kit.at('zeros.img'), 5 * BLOCK, BAD);
    await kit.read('zeros.img', 'zeros.tok', { hash: true });
    writeFileSync(kit.at('lun.img'), Buffer.alloc(SIZE, 7));
    const { bytes, reused } = await kit.write('zeros.tok', 'lun.img', have('old.img'));
    expect(reused).toBe(SIZE - BLOCK);
    expect(bytes.zeroed).toBeGreaterThanOrEqual(SIZE - BLOCK);
    expect(content('lun.img').equals(readFileSync(kit.at('zeros.img')))).toBe(true);
  });

  it('the content decides: a made-up hash finds only what has it, and checksums find that out', async () => {
    await kit.read('a.img', 'both.tok', { checksum: true, hash: true, length: 2 * BLOCK });
    writeFileSync(kit.at('other.img'), seededBytes(2 * BLOCK, 77));
    await kit.read('other.img', 'other.tok', { hash: true });
    // The hashes of other data, made to go with this token.
    const [both, theirs] = ['both.tok', 'other.tok'].map((name) => readFileSync(kit.at(name)));
    const forged = Buffer.from((theirs as Buffer).subarray(512));
    (both as Buffer).copy(forged, 128, 1024 + 128, 1024 + 160);
    const { createHash } = await import('node:crypto');
    createHash('sha256').update(forged.subarray(0, 480)).digest().copy(forged, 480);
    writeFileSync(kit.at('both.tok'), Buffer.concat([(both as Buffer).subarray(0, 1024), forged]));
    expect((await kit.write('both.tok', 'lun.img', have('old.img'))).reused).toBe(0);
    expect(
      content('lun.img')
        .subarray(0, 2 * BLOCK)
        .equals(data.subarray(0, 2 * BLOCK)),
    ).toBe(true);
    await expect(kit.write('both.tok', 'lun.img', have('other.img'))).rejects.toMatchObject({
      code: 'VERIFY_FAILED',
      context: { wrong: 2 },
    });
  });

  it('damaged ones, missing ones and senseless blocks are refused', async () => {
    const tokens = readFileSync(kit.at('t.tok'));
    tokens[512 + 200] = 1;
    writeFileSync(kit.at('t.tok'), tokens);
    const refused = { code: 'TOKEN_INVALID', context: { reason: 'forged' } };
    await expect(kit.write('t.tok', 'lun.img', have('old.img'))).rejects.toMatchObject(refused);
    // Who looks for nothing needs none.
    expect((await kit.write('t.tok', 'lun.img')).reused).toBeNull();
    const invalid = { code: 'INVALID_ARGUMENT' };
    await kit.read('a.img', 'plain.tok');
    await expect(kit.write('plain.tok', 'lun.img', have('old.img'))).rejects.toMatchObject(invalid);
    for (const hashBlock of [2 * KiB, 100 * KiB, 8 * MiB])
      await expect(kit.read('a.img', 'x.tok', { hashBlock })).rejects.toMatchObject(invalid);
  });

  it('more blocks than there is memory for are refused before anything is read', async () => {
    const ranges = Array.from({ length: 40_000 }, (_, at) => ({ token: 0, offset: at * SIZE, length: SIZE }));
    writeFileSync(kit.at('t.tok.json'), JSON.stringify({ schemaVersion: 1, ranges }));
    await expect(kit.write('t.tok', 'lun.img', have('old.img'))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      context: { most: 2 ** 21 },
    });
  });

  it('have the SHA-256 of each block, as sha256sum tells it', async () => {
    await kit.read('a.img', 'small.tok', { hash: true, length: 3 * BLOCK });
    const list = readFileSync(kit.at('small.tok')).subarray(512 + 192);
    for (let block = 0; block < 3; block += 1) {
      writeFileSync(kit.at('block'), data.subarray(block * BLOCK, (block + 1) * BLOCK));
      const { stdout } = await must('sha256sum', [kit.at('block')]);
      expect(list.toString('hex', block * 32, block * 32 + 32)).toBe(stdout.slice(0, 64));
    }
  });
});

describe.skipIf(!canMount('xfs'))('storage that shares extents', () => {
  it('shares those of a chain, except where a sector of a child cuts them', async () => {
    kit = new TokenKit(folderOn('xfs'));
    writeFileSync(kit.at('a.img'), data);
    await convert(kit.host, { source: kit.at('a.img'), target: kit.at('base.vhd') });
    await create(kit.host, {
      path: kit.at('child.vhd'),
      type: 'differencing',
      parent: kit.at('base.vhd'),
    });
    const changed = Buffer.from(data);
    changed.fill(9, MiB + 512, MiB + 2048);
    const input = Readable.from([changed.subarray(MiB + 512, MiB + 2048)]);
    await write(kit.host, { path: kit.at('child.vhd'), offset: MiB + 512, input });
    writeFileSync(kit.at('a.img'), changed);
    await kit.read('a.img', 't.tok', { hash: true });
    rmSync(kit.at('a.img'));
    for (const name of ['lun.img', 'lun.vhdx']) {
      const path = kit.at(name);
      await create(kit.host, {
        path,
        size: SIZE,
        ...(name === 'lun.vhdx' ? { logicalSectorSize: 4096 } : {}),
      });
      const { bytes, reused } = await kit.write('t.tok', name, have('child.vhd'));
      expect(reused).toBe(SIZE);
      expect(bytes).toEqual({ shared: SIZE - 4 * KiB, kernelCopied: 0, buffered: 4 * KiB, zeroed: 0 });
    }
    expect(content('lun.img').equals(changed)).toBe(true);
    await convert(kit.host, { source: kit.at('lun.vhdx'), target: kit.at('back.img') });
    expect(content('back.img').equals(changed)).toBe(true);
  });

  it('shares those of the candidates, which stay as they are', async () => {
    kit = new TokenKit(folderOn('xfs'));
    await prepare();
    rmSync(kit.at('a.img'));
    writeFileSync(kit.at('old.img'), data);
    const { bytes } = await kit.write('t.tok', 'lun.img', have('old.img'));
    expect(bytes.shared).toBe(SIZE);
    expect(await fileExtents(kit.at('lun.img'))).toEqual({ shared: SIZE, own: 0 });
    expect(content('old.img').equals(data)).toBe(true);
  });
});

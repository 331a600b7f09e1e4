/** `vhdkit token`: tokens go from process to process. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { fixture } from '../support/fixtures.js';
import { type MountedFileSystem, mountNew } from '../support/mounts.js';
import { canMount } from '../support/requires.js';
import { must, vhdkit, vhdkitJson } from '../support/run.js';
import { seededBytes } from '../support/sample-disk.js';
import { makeTempFolder } from '../support/tmp.js';

const MiB = 1024 * 1024;
let folder: string;
beforeAll(() => {
  folder = makeTempFolder('token-cli');
});

/** Runs `token` with a store of its own. */
class Tokens {
  readonly folder: string;
  readonly #store: string[];
  constructor(name: string, base = folder) {
    this.folder = path.join(base, name);
    mkdirSync(this.folder);
    this.#store = ['--token-store', path.join(this.folder, 'store')];
  }
  at(name: string): string {
    return path.join(this.folder, name);
  }
  run(...args: string[]) {
    return vhdkit(['token', ...args, ...this.#store], { cwd: this.folder });
  }
  json(...args: string[]) {
    return vhdkitJson(['token', ...args, ...this.#store], { cwd: this.folder });
  }
  /** Code and reason of the error that the command ends with. */
  async refused(...args: string[]): Promise<string> {
    const { status, stdout } = await this.run(...args, '--json');
    expect(status).not.toBe(0);
    const { error } = JSON.parse(stdout) as { error: { code: string; context: { reason?: string } } };
    return error.context.reason === undefined ? error.code : `${error.code} ${error.context.reason}`;
  }
}

describe('from one process to another', () => {
  test('data of an image appears in a raw image and in a VHD; nothing tells where it was', async () => {
    const tokens = new Tokens('plain');
    copyFileSync(fixture('disk.vhdx'), tokens.at('disk.vhdx'));
    const { virtualSize } = await vhdkitJson(['info', tokens.at('disk.vhdx')]);
    const size = virtualSize as number;
    const made = await tokens.json('read', 'disk.vhdx', '-o', 't.tok');
    expect((made.tokens as object[]).length).toBeGreaterThan(1);
    expect(statSync(tokens.at('t.tok')).mode & 0o777).toBe(0o600);
    expect(statSync(tokens.at('t.tok.json')).mode & 0o777).toBe(0o600);
    for (const name of ['t.tok', 't.tok.json'])
      expect(readFileSync(tokens.at(name)).includes('disk.vhdx')).toBe(false);
    writeFileSync(tokens.at('lun.img'), '');
    truncateSync(tokens.at('lun.img'), size);
    await vhdkitJson(['create', tokens.at('other.vhd'), String(size)]);
    const { bytes } = await tokens.json('write', 't.tok', 'lun.img');
    const moved = Object.values(bytes as Record<string, number>).reduce((a, b) => a + b);
    expect(moved).toBe(size);
    await tokens.json('write', 't.tok', 'other.vhd');
    for (const name of ['lun.img', 'other.vhd']) {
      await vhdkitJson(['compare', tokens.at('disk.vhdx'), tokens.at(name)]);
    }
    const { stdout } = await must('sha256sum', [tokens.at('lun.img')]);
    await tokens.run('cat', 't.tok').then(({ output }) => writeFileSync(tokens.at('cat.img'), output));
    expect((await must('sha256sum', [tokens.at('cat.img')])).stdout.slice(0, 64)).toBe(stdout.slice(0, 64));
    const { status, stdout: shown } = await tokens.run('show', 't.tok');
    expect(status).toBe(0);
    const list = (await tokens.json('list')).tokens as { id: string; state: string }[];
    for (const { id, state } of list) {
      expect(state).toBe('valid');
      expect(shown).toContain(id);
    }
  });

  test('refused tokens say why, and are counted', async () => {
    const tokens = new Tokens('refused');
    const data = seededBytes(2 * MiB, 1);
    writeFileSync(tokens.at('a.img'), data);
    writeFileSync(tokens.at('lun.img'), Buffer.alloc(2 * MiB));
    for (const name of ['forged', 'revoked', 'changed'])
      await tokens.json('read', 'a.img', '-o', `${name}.tok`);
    await tokens.json('read', 'a.img', '-o', 'expired.tok', '--expires', '0.001s');
    const forged = readFileSync(tokens.at('forged.tok'));
    forged[500] = (forged[500] ?? 0) ^ 1;
    writeFileSync(tokens.at('forged.tok'), forged);
    writeFileSync(tokens.at('cut.tok'), forged.subarray(0, 511));
    const future = Buffer.from(forged);
    future.writeUInt32BE(0x00800003);
    writeFileSync(tokens.at('future.tok'), future);
    await tokens.json('revoke', 'revoked.tok');
    expect(await tokens.refused('write', 'forged.tok', 'lun.img')).toBe('TOKEN_INVALID forged');
    expect(await tokens.refused('write', 'cut.tok', 'lun.img')).toBe('TOKEN_INVALID malformed');
    expect(await tokens.refused('write', 'future.tok', 'lun.img')).toBe('TOKEN_INVALID unsupported');
    expect(await tokens.refused('write', 'revoked.tok', 'lun.img')).toBe('TOKEN_INVALID revoked');
    expect(await tokens.refused('write', 'expired.tok', 'lun.img')).toBe('TOKEN_EXPIRED');
    writeFileSync(tokens.at('a.img'), data);
    expect(await tokens.refused('write', 'changed.tok', 'lun.img')).toBe('SOURCE_CHANGED');
    const other = new Tokens('other');
    expect(await other.refused('write', tokens.at('changed.tok'), tokens.at('lun.img'))).toBe(
      'TOKEN_INVALID foreign',
    );
    expect(readFileSync(tokens.at('lun.img')).every((byte) => byte === 0)).toBe(true);
    const { refusals } = await tokens.json('list');
    expect(refusals).toEqual({ malformed: 1, unsupported: 1, forged: 1, revoked: 1, expired: 1, changed: 1 });
    expect(await tokens.refused('read', 'a.img', '-o', 'changed.tok')).toBe('ALREADY_EXISTS');
    expect((await tokens.json('revoke', '--all')).revoked).toEqual([expect.any(String), expect.any(String)]);
  });
});

describe.skipIf(!canMount('xfs'))('on storage that shares extents', () => {
  let xfs: MountedFileSystem;
  beforeAll(() => {
    xfs = mountNew('xfs');
    return () => xfs.unmount();
  });

  test('no byte is copied, and a persistent token shows what was there', async () => {
    const tokens = new Tokens('persistent', xfs.path);
    const data = seededBytes(8 * MiB, 3);
    writeFileSync(tokens.at('a.img'), data);
    for (const name of ['old.img', 'new.img']) {
      writeFileSync(tokens.at(name), '');
      truncateSync(tokens.at(name), 16 * MiB);
    }
    await tokens.json(
      'read',
      'a.img',
      '-o',
      'kept.tok',
      '--mode',
      'persistent',
      '--offset',
      '1M',
      '--length',
      '6M',
    );
    await tokens.json('read', 'a.img', '-o', 'vulnerable.tok');
    const { bytes } = await tokens.json('write', 'vulnerable.tok', 'new.img', '--offset', '4M');
    expect(bytes).toEqual({ shared: 8 * MiB, kernelCopied: 0, buffered: 0, zeroed: 0 });
    expect(
      readFileSync(tokens.at('new.img'))
        .subarray(4 * MiB, 12 * MiB)
        .equals(data),
    ).toBe(true);

    writeFileSync(tokens.at('a.img'), Buffer.alloc(8 * MiB, 7));
    expect(await tokens.refused('write', 'vulnerable.tok', 'new.img')).toBe('SOURCE_CHANGED');
    const written = await tokens.json('write', 'kept.tok', 'old.img');
    expect(written.bytes).toEqual({ shared: 6 * MiB, kernelCopied: 0, buffered: 0, zeroed: 0 });
    expect(
      readFileSync(tokens.at('old.img'))
        .subarray(0, 6 * MiB)
        .equals(data.subarray(MiB, 7 * MiB)),
    ).toBe(true);
    // Also onto the source itself: it is the old data that goes there.
    await tokens.json('write', 'kept.tok', 'a.img', '--offset', '1M');
    expect(
      readFileSync(tokens.at('a.img'))
        .subarray(MiB, 7 * MiB)
        .equals(data.subarray(MiB, 7 * MiB)),
    ).toBe(true);

    const kept = tokens.at('.vhdkit-kept');
    expect(readdirSync(kept)).toHaveLength(1);
    expect((await tokens.json('list')).keptBytes).toBe(8 * MiB);
    await tokens.json('revoke', 'kept.tok');
    expect(existsSync(kept)).toBe(false);
    expect(await tokens.refused('write', 'kept.tok', 'old.img')).toBe('TOKEN_INVALID revoked');
  });

  test('what expired tokens kept is given back by the next command', async () => {
    const tokens = new Tokens('expired', xfs.path);
    writeFileSync(tokens.at('a.img'), seededBytes(MiB, 4));
    await tokens.json('read', 'a.img', '-o', 't.tok', '--mode', 'persistent', '--expires', '0.5s');
    expect(readdirSync(tokens.at('.vhdkit-kept'))).toHaveLength(1);
    await new Promise((resolve) => setTimeout(resolve, 600));
    await tokens.json('list');
    expect(existsSync(tokens.at('.vhdkit-kept'))).toBe(false);
  });
});

test('elsewhere persistent tokens are refused with the reason, and nothing is left', async () => {
  const tokens = new Tokens('no-sharing', canMount('tmpfs') ? mountNew('tmpfs', 16).path : folder);
  writeFileSync(tokens.at('a.img'), seededBytes(MiB, 5));
  const { status, stderr } = await tokens.run('read', 'a.img', '-o', 't.tok', '--mode', 'persistent');
  if (status === 0) return;
  expect(stderr).toContain('its storage does not share extents');
  expect(stderr).toContain('change-vulnerable');
  expect(readdirSync(tokens.folder).sort()).toEqual(['a.img', 'store']);
  expect((await tokens.json('list')).tokens).toEqual([]);
});

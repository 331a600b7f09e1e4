/** `vhdkit token` with checksums and hashes, from process to process. */
import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { fixture } from '../support/fixtures.js';
import { tool } from '../support/requires.js';
import { must, vhdkit, vhdkitJson } from '../support/run.js';
import { makeTempFolder } from '../support/tmp.js';
import { poke } from '../support/token-kit.js';

describe.skipIf(!tool('qemu-img'))('a fixture, by way of tokens', () => {
  const folder = makeTempFolder('token-auxiliary');
  const at = (name: string): string => path.join(folder, name);
  const store = ['--token-store', at('store')];
  const token = (...args: string[]) => vhdkit(['token', ...args, ...store], { cwd: folder });
  const json = (...args: string[]) => vhdkitJson(['token', ...args, ...store], { cwd: folder });
  let size = 0;

  /** Code and context of the error that the command ends with. */
  async function failure(...args: string[]): Promise<Record<string, unknown>> {
    const { status, stdout } = await token(...args, '--json');
    expect(status).toBe(1);
    const { error } = JSON.parse(stdout) as { error: { code: string; context: object } };
    return { code: error.code, ...error.context };
  }

  beforeAll(async () => {
    mkdirSync(at('store'), { mode: 0o700 });
    copyFileSync(fixture('disk.vhdx'), at('disk.vhdx'));
    copyFileSync(fixture('disk.vhdx'), at('copy.vhdx'));
    size = (await vhdkitJson(['info', at('disk.vhdx')])).virtualSize as number;
    await json('read', 'disk.vhdx', '-o', 't.tok', '--checksum', '--hash', '--hash-block', '4K');
    writeFileSync(at('lun.img'), '');
    truncateSync(at('lun.img'), size);
  });

  test('arrives whole and verified, as qemu-img sees it', async () => {
    for (const name of ['t.tok', 't.tok.json', 't.tok.sums']) {
      expect(statSync(at(name)).mode & 0o777).toBe(0o600);
      expect(readFileSync(at(name)).includes('disk.vhdx')).toBe(false);
    }
    const { verified, reused } = await json('write', 't.tok', 'lun.img');
    expect([verified, reused]).toEqual([{ checked: size, unchecked: 0 }, null]);
    await must('qemu-img', ['compare', '-f', 'vhdx', '-F', 'raw', at('disk.vhdx'), at('lun.img')]);
    expect((await json('write', 't.tok', 'lun.img', '--no-verify')).verified).toBeNull();
    expect((await json('verify', 't.tok', 'lun.img')).verified).toEqual({ checked: size, unchecked: 0 });
  });

  test('a changed byte is told with its chunk, on the disk and in words', async () => {
    const offset = 1024 * 1024 + 4321;
    poke(at('lun.img'), offset, Uint8Array.of((readFileSync(at('lun.img'))[offset] ?? 0) ^ 1));
    const failed = await failure('verify', 't.tok', 'lun.img');
    expect(failed).toMatchObject({ code: 'VERIFY_FAILED', reason: 'mismatch', wrong: 1 });
    const { stderr, status } = await token('verify', 't.tok', 'lun.img');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^Error: .*lun\.img: .*at offset \d+ of the disk/);
    expect(await json('list')).toMatchObject({ refusals: { mismatch: 2 } });
    const { stdout } = await token('show', 't.tok');
    expect(stdout).toMatch(/^checksum for token 0, /m);
    expect(stdout).toMatch(/^hash for token 0, /m);
  });

  test('comes from a copy when the image itself was changed', async () => {
    utimesSync(at('disk.vhdx'), 1, 1);
    expect((await failure('write', 't.tok', 'lun.img')).code).toBe('SOURCE_CHANGED');
    const { reused, verified } = await json('write', 't.tok', 'lun.img', '--have', 'copy.vhdx');
    expect(reused).toBeGreaterThan(0);
    expect(verified).toEqual({ checked: size, unchecked: 0 });
    await must('qemu-img', ['compare', '-f', 'vhdx', '-F', 'raw', at('copy.vhdx'), at('lun.img')]);
    const { stdout } = await token('write', 't.tok', 'lun.img', '--have', 'copy.vhdx', '--have', 'disk.vhdx');
    expect(stdout).toMatch(/found elsewhere {2}/);
  });
});

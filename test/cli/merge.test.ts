/** `vhdkit merge` as people and scripts use it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { hiddenName } from '../../src/io/node-path.js';
import { systemHost } from '../../src/operations/host.js';
import { sha256Sync } from '../support/content.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { PROJECT_ROOT } from '../support/run.js';
import { testFolder } from '../support/tmp.js';
import { addImage, buildChainIn, type ChainShape } from '../unit/operations/merge/chains.js';

const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
const MiB = 1024 * 1024;
const host = systemHost();

const SHAPE: ChainShape = {
  format: 'vhdx',
  blockSize: MiB,
  baseType: 'dynamic',
  sectors: 8192,
  links: [1, 2, 3].map((fill) => ({
    growth: 0,
    steps: [{ kind: 'write', at: 0.2 * fill, sectors: 700, fill }],
  })),
};

let folder: string;
/** Top first. */
let paths: string[];
let child: string;
let middle: string;
let base: string;
let content: string;

async function contentHash(image: string): Promise<string> {
  return String((await vhdkitJson(['hash', image])).sha256);
}

/** Digests of all files in the folder: what must not change. */
function everything(): Record<string, string> {
  const names = readdirSync(folder);
  return Object.fromEntries(names.map((name) => [name, sha256Sync(path.join(folder, name))]));
}

beforeEach(async () => {
  folder = testFolder();
  ({ paths } = await buildChainIn(host, folder, SHAPE));
  [child = '', middle = '', base = ''] = paths;
  content = await contentHash(child);
});

describe('merge', () => {
  test('into the parent: the child stays, and says what was done', async () => {
    const { status, stdout, stderr } = await vhdkit(['merge', child, '--no-color']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^Merged .*2\.vhdx into .*1\.vhdx \(vhdx, differencing\)\n/);
    for (const image of [child, middle]) expect(await contentHash(image)).toBe(content);
  });

  test('into an ancestor by a link, and what was merged goes', async () => {
    const link = path.join(testFolder(), 'the-base');
    symlinkSync(base, link);
    const result = await vhdkitJson(['merge', child, '--to', link, '--delete']);
    expect(result).toMatchObject({
      target: base,
      created: false,
      merged: [child, middle],
      deleted: [middle, child],
      stale: [],
      dryRun: false,
    });
    expect(readdirSync(folder).sort()).toEqual(['0.vhdx']);
    expect(await contentHash(base)).toBe(content);
  });

  test('a child named by a link in another folder: the child goes, and the link', async () => {
    const link = path.join(testFolder(), 'link.vhdx');
    symlinkSync(child, link);
    const { deleted } = await vhdkitJson(['merge', link, '--delete']);
    expect(deleted).toEqual([link]);
    expect(readdirSync(path.dirname(link))).toEqual([]);
    expect(readdirSync(folder).sort()).toEqual(['0.vhdx', '1.vhdx']);
    expect(await contentHash(middle)).toBe(content);
  });

  test('into an ancestor without --delete: the child depends on it, and the one between is refused', async () => {
    const result = await vhdkitJson(['merge', child, '--to', base]);
    expect(result).toMatchObject({ stale: [middle], deleted: [] });
    const info = await vhdkitJson(['info', child, '--chain']);
    expect(info.chain).toHaveLength(2);
    for (const image of [child, base]) expect(await contentHash(image)).toBe(content);
    const refused = await vhdkit(['merge', middle, '--json']);
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'PARENT_MISMATCH' } });
  });

  test('an image in the middle: what depends on it is linked to the target', async () => {
    const result = await vhdkitJson(['merge', middle, '--delete']);
    expect(result).toMatchObject({ target: base, relinked: [child], deleted: [middle] });
    expect(await contentHash(child)).toBe(content);
    expect((await vhdkitJson(['info', child, '--chain'])).chain).toHaveLength(2);
  });

  test('into a new image: the chain stays as it is', async () => {
    const before = everything();
    const flat = path.join(folder, 'flat.vhd');
    const result = await vhdkitJson(['merge', child, '--to', flat]);
    expect(result).toMatchObject({ created: true, target: flat, format: 'vhd', merged: paths });
    expect(await contentHash(flat)).toBe(content);
    const { 'flat.vhd': _made, ...rest } = everything();
    expect(rest).toEqual(before);
  });

  test('--dry-run changes nothing and foresees what is done', async () => {
    const before = everything();
    const foreseen = await vhdkitJson(['merge', child, '--to', base, '--delete', '--dry-run']);
    expect(everything()).toEqual(before);
    const done = await vhdkitJson(['merge', child, '--to', base, '--delete']);
    for (const field of ['target', 'merged', 'deleted', 'relinked', 'stale', 'virtualSize'])
      expect({ [field]: foreseen[field] }).toEqual({ [field]: done[field] });
    const total = (bytes: unknown): number =>
      Object.values(bytes as Record<string, number>).reduce((sum, each) => sum + each, 0);
    expect(total(foreseen.bytes)).toBe(total(done.bytes));
  });
});

describe('merge refuses, before anything changes,', () => {
  async function expectRefused(args: string[], code: string, text: RegExp): Promise<void> {
    const before = everything();
    const { status, stdout } = await vhdkit(['merge', ...args, '--json']);
    expect(status).not.toBe(0);
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string; hint: string } };
    expect(error.code).toBe(code);
    expect(`${error.message} ${error.hint}`).toMatch(text);
    expect(everything()).toEqual(before);
  }

  test('an image without a parent', () => expectRefused([base], 'UNSUPPORTED', /no parent .* convert/));

  test('a parent that is not there', async () => {
    renameSync(middle, path.join(folder, 'elsewhere'));
    await expectRefused([child], 'PARENT_MISSING', /1\.vhdx/);
  });

  test('a target that is the child itself, or no image of the chain', async () => {
    await expectRefused([child, '--to', child], 'INVALID_ARGUMENT', /is the image that is to be merged/);
    const other = path.join(folder, 'other.vhdx');
    await vhdkitJson(['create', other, '1M']);
    await expectRefused([child, '--to', other], 'INVALID_ARGUMENT', /does not depend on it.*0\.vhdx/);
  });

  test('--delete with a target that is not there', async () => {
    const target = path.join(folder, 'new.vhdx');
    await expectRefused([child, '--to', target, '--delete'], 'NOT_FOUND', /new\.vhdx is not there.*--delete/);
  });

  test('a target that others depend on, unless forced', async () => {
    const sibling = path.join(folder, 'sibling.vhdx');
    await addImage(host, sibling, SHAPE, 8192 * 512, middle);
    await expectRefused([child], 'IN_USE', /sibling\.vhdx.*--force/);
    await expectRefused([child, '--to', base], 'IN_USE', /sibling\.vhdx/);
    const { warnings } = await vhdkitJson(['merge', child, '--force']);
    expect(warnings).toMatchObject([
      { code: 'MERGE_BREAKS_CHILD', message: expect.stringContaining(sibling) },
    ]);
    expect(await contentHash(middle)).toBe(content);
  });

  test('an image that another process holds, by its id', async () => {
    const holder = spawn('sleep', ['60']);
    try {
      for (const image of paths) {
        const lock = hiddenName(image, 'lock');
        writeFileSync(lock, `${holder.pid} ${hostname()}\n`);
        await expectRefused([child, '--to', base], 'IN_USE', new RegExp(`process ${holder.pid}`));
        rmSync(lock);
      }
    } finally {
      holder.kill();
    }
  });
});

describe('Ctrl-C during merge', () => {
  test('exit 130, everything is readable, and running it again finishes', async () => {
    const large: ChainShape = {
      ...SHAPE,
      sectors: (96 * MiB) / 512,
      links: [0, 1].map((depth) => ({
        growth: 0,
        steps: [{ kind: 'write', at: 0, sectors: (80 * MiB) / 512, fill: 40 + depth }],
      })),
    };
    const place = testFolder();
    const [top = '', bottom = ''] = (await buildChainIn(host, place, large)).paths;
    const wanted = await contentHash(top);
    const args = ['merge', top, '--provider', 'buffered', '--rate', '40M', '--progress', 'json', '--delete'];
    const running = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    let sent = false;
    running.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
      if (sent || !/"transferred":[1-9]/.test(stderr)) return;
      sent = running.kill('SIGINT');
    });
    const [status] = (await once(running, 'close')) as [number | null];
    expect({ status, stderr }).toEqual({
      status: 130,
      stderr: expect.stringMatching(/Cancelled(.|\n)*hint: Run the same command again/),
    });
    expect(existsSync(top)).toBe(true);
    expect(readdirSync(place).filter((name) => name.startsWith('.'))).toEqual([]);
    expect(await contentHash(top)).toBe(wanted);
    await vhdkitJson(['merge', top, '--delete']);
    expect(readdirSync(place)).toEqual(['0.vhdx']);
    expect(await contentHash(bottom)).toBe(wanted);
  });
});

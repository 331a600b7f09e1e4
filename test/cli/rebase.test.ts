/** `vhdkit rebase` as people and scripts use it. */
import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { systemHost } from '../../src/operations/host.js';
import { sha256Sync } from '../support/content.js';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { vhdkit as vhdkitProcess } from '../support/run.js';
import { testFolder } from '../support/tmp.js';
import { buildChainIn } from '../unit/operations/merge/chains.js';

const KiB = 1024;

let folder: string;
let child: string;
let middle: string;
let base: string;
let content: string;

const hash = async (image: string): Promise<string> => String((await vhdkitJson(['hash', image])).sha256);

/** Digests of all files: what must not change. */
function everything(): Record<string, string> {
  const names = readdirSync(folder).sort();
  return Object.fromEntries(names.map((name) => [name, sha256Sync(path.join(folder, name))]));
}

beforeEach(async () => {
  folder = testFolder();
  const links = [1, 2, 3].map((fill) => ({
    growth: 0,
    // The one in the middle holds 128 KiB of its own; of them the child covers the second half.
    steps: [{ kind: 'write' as const, at: 0.25 * fill - (fill === 3 ? 0.234375 : 0), sectors: 256, fill }],
  }));
  const shape = { format: 'vhdx', blockSize: 1024 * KiB, baseType: 'dynamic', sectors: 8192, links } as const;
  const { paths } = await buildChainIn(systemHost(), folder, shape);
  [child = '', middle = '', base = ''] = paths;
  content = await hash(child);
});

describe('rebase', () => {
  test('keeps the content: a dry run tells what it takes, and changes nothing', async () => {
    const before = everything();
    const plan = await vhdkitJson(['rebase', child, '--parent', base, '--dry-run']);
    expect(everything()).toEqual(before);
    const { status, stdout, stderr } = await vhdkit(['rebase', child, '--parent', base, '--no-color']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^Rebased .*2\.vhdx to .*0\.vhdx\n {2}was +.*1\.vhdx\n {2}taken over +64 KiB /);
    expect(plan).toMatchObject({
      schemaVersion: 1,
      path: child,
      parent: base,
      previousParent: middle,
      relink: false,
      linkChanged: true,
      idMatched: true,
      pulled: 64 * KiB,
      bytes: { shared: 0, kernelCopied: 0, buffered: 0, zeroed: 0 },
      warnings: [],
      dryRun: true,
    });
    expect(await hash(child)).toBe(content);
    const info = await vhdkitJson(['info', child, '--chain']);
    expect(info.chain).toHaveLength(2);
    expect((await vhdkitJson(['rebase', child, '--parent', base])).pulled).toBe(0);
  });

  test('needs to know which parent: wrong usage says where to go', async () => {
    for (const [args, hint] of [
      [[], /--parent IMAGE.*convert/],
      [['--parent', base, '--ignore-id-mismatch'], /--relink/],
      [['--relink', '--ignore-id-mismatch'], /--relink/],
    ] as const) {
      const { status, stderr } = await vhdkit(['rebase', child, ...args]);
      expect(status).toBe(64);
      expect(stderr).toMatch(hint);
    }
    const { stderr } = await vhdkit(['rebase', child, '-b', base]);
    expect(stderr).toContain('Did you mean --parent?');
    expect((await vhdkitProcess(['set-vhd', child])).stderr).toContain('vhdkit rebase');
  });

  test('--relink repairs a link and says what differs when it is the wrong one', async () => {
    const moved = path.join(folder, 'moved.vhdx');
    renameSync(middle, moved);
    const lost = await vhdkit(['rebase', child, '--parent', base]);
    expect(lost.status).toBe(1);
    expect(lost.stderr).toMatch(/was not found, so its content can not be kept[\s\S]*--relink --parent/);
    const wrong = await vhdkit(['rebase', child, '--relink', '--parent', base, '--json']);
    expect(wrong.status).toBe(1);
    expect(JSON.parse(wrong.stdout)).toMatchObject({ error: { code: 'PARENT_MISMATCH' } });
    const { stdout } = await vhdkit(['rebase', child, '--relink', '--parent', moved]);
    expect(stdout).toMatch(/^Relinked .*2\.vhdx to .*moved\.vhdx\n/);
    expect(await hash(child)).toBe(content);
    const again = await vhdkit(['rebase', child, '--relink']);
    expect(again.stdout).toMatch(/is right, nothing to do/);
    const forced = await vhdkit(['rebase', child, '--relink', '--parent', base, '--ignore-id-mismatch']);
    expect(forced.status).toBe(0);
    expect(forced.stderr).toContain('PARENT_ID_IGNORED');
    expect(await hash(child)).not.toBe(content);
  });

  test('after a move of the whole folder, one relink after the other', async () => {
    const to = path.join(folder, 'to');
    mkdirSync(to);
    for (const image of [child, middle, base]) renameSync(image, path.join(to, path.basename(image)));
    for (const name of ['2.vhdx', '1.vhdx']) {
      const result = await vhdkitJson(['rebase', path.join(to, name), '--relink']);
      expect(result).toMatchObject({ linkChanged: true, pulled: 0, compared: 0 });
    }
    expect(await hash(path.join(to, '2.vhdx'))).toBe(content);
    const { chain } = (await vhdkitJson(['info', path.join(to, '2.vhdx'), '--chain'])) as {
      chain: { parent?: { verdict: string } }[];
    };
    expect(chain.map(({ parent }) => parent?.verdict)).toEqual(['matches', 'matches', undefined]);
  });
});

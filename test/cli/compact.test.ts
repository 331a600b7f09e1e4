/** compact and defrag on the command line: what is refused, what is kept and why, Ctrl-C, words for people. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { vhdkit, vhdkitJson } from '../support/in-process.js';
import { lacking } from '../support/requires.js';
import { must, PROJECT_ROOT } from '../support/run.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const MiB = 1024 ** 2;
const BIN = path.join(PROJECT_ROOT, 'bin/run.js');
let pristine: string;

/** 64 MiB as a VHDX, all of it stored; every other MiB holds zeros. */
beforeAll(async () => {
  const folder = makeTempFolder('compact');
  const raw = path.join(folder, 'a.raw');
  const content = Buffer.alloc(64 * MiB);
  for (let block = 0; block < 64; block += 2) content.fill(block + 1, block * MiB, (block + 1) * MiB);
  writeFileSync(raw, content);
  pristine = path.join(folder, 'a.vhdx');
  await must(process.execPath, [BIN, 'convert', raw, pristine, '--block-size', '1M', '--zeros', 'holes']);
});

function copy(): string {
  const image = path.join(testFolder('compact'), 'a.vhdx');
  copyFileSync(pristine, image);
  return image;
}

describe('compact', () => {
  test('a dry run changes nothing and says what would go; the work says what went', async () => {
    const image = copy();
    const foreseen = await vhdkit(['compact', image, '--dry-run']);
    expect(foreseen.status).toBe(0);
    expect(foreseen.stdout).toContain('Would compact');
    expect(readFileSync(image).equals(readFileSync(pristine))).toBe(true);
    const done = await vhdkit(['compact', image]);
    expect(done.stdout).toMatch(/zeros\s+32 MiB/);
    expect(done.stdout).toContain('Before');
    expect(done.stdout).toContain('After');
    expect((await vhdkit(['compare', pristine, image])).status).toBe(0);
    // Nothing more to do: one picture.
    expect((await vhdkit(['compact', image])).stdout).toContain('Before and after');
    expect((await vhdkit(['compact', image, '--quiet'])).stdout).toBe('');
  });

  test('children keep their parent: zeros may go, free space only with --force', async () => {
    const image = copy();
    const child = path.join(path.dirname(image), 'child.vhdx');
    await vhdkitJson(['create', child, '--type', 'differencing', '--parent', image]);
    const refused = await vhdkit(['compact', image, '--free-space', '--json']);
    expect(refused.status).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({
      error: { code: 'IN_USE', context: { children: [child] } },
    });
    expect(readFileSync(image).equals(readFileSync(pristine))).toBe(true);
    await vhdkitJson(['compact', image]);
    expect((await vhdkit(['compare', pristine, child])).status).toBe(0);
    await vhdkitJson(['defrag', image]);
    expect((await vhdkit(['compare', pristine, child])).status).toBe(0);
    await vhdkitJson(['compact', image, '--free-space', '--force']);
  });

  test('a child gives back what its parent shows, and nothing else', async () => {
    const image = copy();
    const child = path.join(path.dirname(image), 'child.vhdx');
    await vhdkitJson(['create', child, '--type', 'differencing', '--parent', image]);
    const same = Buffer.alloc(2 * MiB);
    same.fill(1, 0, MiB);
    await must(process.execPath, [BIN, 'write', child], { input: same });
    await must(process.execPath, [BIN, 'write', child, '--offset', '4M'], {
      input: Buffer.alloc(2 * MiB, 0x77),
    });
    await must(process.execPath, [BIN, 'write', child, '--offset', '8M'], { input: Buffer.alloc(MiB) });
    const { sha256 } = await vhdkitJson(['hash', child]);
    const { reclaimed, after } = await vhdkitJson(['compact', child]);
    expect((reclaimed as { zeros: number }).zeros).toBeGreaterThanOrEqual(MiB);
    expect(after).toMatchObject({ allocatedBlocks: 2 });
    expect((await vhdkitJson(['hash', child])).sha256).toBe(sha256);
    const refused = await vhdkit(['compact', child, '--to', `${child}.new.vhdx`]);
    expect(refused.stderr).toContain('differencing');
  });

  const lacksLuks = lacking('cryptsetup');
  test.skipIf(lacksLuks)(`what is not understood is kept, and said so${lacksLuks}`, async () => {
    const image = path.join(testFolder('compact'), 'a.raw');
    writeFileSync(image, '');
    truncateSync(image, 32 * MiB);
    const fast = ['--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
    await must('cryptsetup', ['-q', 'luksFormat', ...fast, image, '-'], { input: 'secret' });
    const before = readFileSync(image);
    const { stdout } = await vhdkit(['compact', image, '--free-space']);
    expect(stdout).toMatch(/whole disk: LUKS.*kept/);
    expect(readFileSync(image).equals(before)).toBe(true);
  });
});

describe.each(['compact', 'defrag'])('%s', (verb) => {
  test('an image that another program holds is refused', async () => {
    const image = copy();
    const keeper = spawn('bash', ['-c', `exec 9<>'${image}'; echo ready; sleep 30`], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    await once(keeper.stdout, 'data');
    const { status, stderr } = await vhdkit([verb, image]);
    keeper.kill();
    expect(status).toBe(1);
    expect(stderr).toContain('in use');
    expect(readFileSync(image).equals(readFileSync(pristine))).toBe(true);
  });

  test('Ctrl-C leaves an image that shows the same, and running again finishes', async () => {
    const image = copy();
    // Out of order, so that there is something to move.
    if (verb === 'defrag') {
      await must(process.execPath, [BIN, 'compact', image]);
      for (const at of ['41M', '3M', '21M', '1M']) {
        await must(process.execPath, [BIN, 'write', image, '--offset', at], { input: Buffer.alloc(MiB, 9) });
      }
    }
    const { sha256 } = await vhdkitJson(['hash', image]);
    const args = [verb, image, '--rate', '2M', '--provider', 'buffered', '--progress', 'json'];
    const child = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      if (stderr === '') setTimeout(() => child.kill('SIGINT'), 300);
      stderr += chunk.toString();
    });
    const [code] = (await once(child, 'close')) as [number | null];
    expect(code).toBe(130);
    expect(stderr).toContain('Cancelled');
    expect((await vhdkitJson(['hash', image])).sha256).toBe(sha256);
    const { after } = await vhdkitJson([verb, image]);
    if (verb === 'defrag') expect(after).toMatchObject({ fragmentation: { percent: 0 } });
    else expect(after).toMatchObject({ allocatedBlocks: 32 });
    expect((await vhdkitJson(['hash', image])).sha256).toBe(sha256);
  });
});

describe('defrag', () => {
  test('an image without blocks is refused with a reason', async () => {
    const raw = path.join(testFolder('compact'), 'a.raw');
    writeFileSync(raw, Buffer.alloc(MiB, 1));
    const { status, stderr } = await vhdkit(['defrag', raw]);
    expect(status).toBe(1);
    expect(stderr).toContain('has no blocks');
  });

  test.each(['3K', '2G', '512'])('VHDX payload is not aligned to %s', async (align) => {
    const { stderr } = await vhdkit(['defrag', copy(), '--align', align]);
    expect(stderr).toContain("can't be aligned");
  });
});

/** Starting is cheap: `info` of a small image against an empty Node program, and what commands load. */
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { PROJECT_ROOT, run, vhdkit } from '../support/run.js';
import { makeTempFolder, testFolder } from '../support/tmp.js';

const [FEWEST, MOST] = [6, 12];

// The fastest of several interleaved runs: what the program costs, not what else the machine was doing.
test('vhdkit info takes at most three times as long as node -e 0', { retry: 3 }, async () => {
  const image = path.join(testFolder(), 'a.vhdx');
  await vhdkit(['create', image, '64M']);
  let empty = Number.POSITIVE_INFINITY;
  let info = Number.POSITIVE_INFINITY;
  for (let i = 0; i < FEWEST || (i < MOST && info / empty > 3); i += 1) {
    empty = Math.min(empty, (await run(process.execPath, ['-e', '0'])).elapsed);
    info = Math.min(info, (await vhdkit(['info', image])).elapsed);
  }
  expect(info / empty).toBeLessThanOrEqual(3);
});

/**
 * What a start loads of dist/: files, because each costs a look-up and a read, and bytes, because all of
 * them are parsed before anything runs. A command that comes over its bound has come to import what it
 * needs only at times (then import it there), or the plan in scripts/bundle.mjs no longer fits.
 */
describe('a start loads few files, and few bytes, of', () => {
  let folder: string;
  let recorder: string;

  beforeAll(async () => {
    folder = makeTempFolder('startup');
    const hooks = path.join(folder, 'hooks.mjs');
    recorder = path.join(folder, 'recorder.mjs');
    writeFileSync(
      hooks,
      `import { appendFileSync } from 'node:fs';
       export const load = (url, context, next) => {
         appendFileSync(process.env.LOADED, url + '\\n');
         return next(url, context);
       };`,
    );
    writeFileSync(
      recorder,
      `import { register } from 'node:module'; register('./hooks.mjs', import.meta.url);`,
    );
    await vhdkit(['create', path.join(folder, 'a.vhdx'), '64M']);
  });

  async function loaded(args: string[]): Promise<{ files: number; bytes: number }> {
    const list = path.join(folder, 'loaded');
    rmSync(list, { force: true });
    const env = { NODE_OPTIONS: `--import=${recorder}`, LOADED: list };
    const { status, stderr } = await vhdkit(args, { cwd: folder, env });
    expect(status, stderr).toBe(0);
    const urls = existsSync(list) ? readFileSync(list, 'utf8').trim().split('\n') : [];
    const files = urls
      .filter((url) => url.startsWith('file:'))
      .map((url) => fileURLToPath(url))
      .filter((file) => file.startsWith(path.join(PROJECT_ROOT, 'dist') + path.sep));
    expect(files).toContain(path.join(PROJECT_ROOT, 'dist/cli/main.js'));
    return { files: files.length, bytes: files.reduce((sum, file) => sum + statSync(file).size, 0) };
  }

  test.each([
    { command: '--version', args: ['--version'], files: 6, bytes: 300_000 },
    { command: '--help', args: ['--help'], files: 6, bytes: 300_000 },
    { command: 'info', args: ['info', 'a.vhdx'], files: 10, bytes: 470_000 },
    { command: 'convert', args: ['convert', 'a.vhdx', 'b.raw'], files: 13, bytes: 660_000 },
    { command: 'convert to VHD', args: ['convert', 'a.vhdx', 'b.vhd'], files: 15, bytes: 770_000 },
  ])('$command', async ({ args, files, bytes }) => {
    const start = await loaded(args);
    expect(start.files).toBeLessThanOrEqual(files);
    expect(start.bytes).toBeLessThanOrEqual(bytes);
  });
});

/**
 * Makes a fresh machine ready for `npm test`, once per run: packages, build, temporary folder.
 *
 * Invariant: something that can't be provided never fails the run, it is named and its tests skip. The one
 * exception is our own build: without it a full run means nothing.
 *
 * Packages are installed only on Debian-like systems and only as root. VHDKIT_TEST_INSTALL=0 forbids it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { isRoot, releaseAll } from './mounts.js';
import { canLoop, canMount } from './requires.js';
import { PROJECT_ROOT } from './run.js';
import { createRunFolder, RUN_FOLDER_PREFIX, removeFolder } from './tmp.js';
import { DEBIAN_PACKAGES, findTool, missingPackages, missingTools } from './tools.js';

/** Longest time for all of apt-get's work, in milliseconds: an unreachable mirror must not eat the run. */
const APT_BUDGET = 240_000;
const APT_OPTIONS = [
  'Dpkg::Use-Pty=0',
  'DPkg::Lock::Timeout=60',
  'Acquire::Retries=1',
  'Acquire::http::Timeout=20',
];

function say(line: string): void {
  process.stderr.write(`[test set-up] ${line}\n`);
}

/** Runs apt-get; returns why it failed, or undefined. */
function apt(args: string[], deadline: number): string | undefined {
  const options = APT_OPTIONS.flatMap((option) => ['-o', option]);
  const result = spawnSync('apt-get', ['-q', '-y', ...options, ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: Math.max(deadline - Date.now(), 1),
  });
  if (result.error) return result.error.message;
  if (result.status === 0) return undefined;
  return result.stderr.toString().trim().split('\n').at(-1) || `apt-get ended with ${result.status}`;
}

/** Why packages can't be installed here; undefined when they can. */
function installObstacle(): string | undefined {
  if (process.env.VHDKIT_TEST_INSTALL === '0') return 'VHDKIT_TEST_INSTALL=0 forbids it';
  if (!findTool('apt-get')) return 'this is no Debian-like system';
  if (!isRoot) return 'only root may install packages';
  return undefined;
}

function installPackages(): void {
  const packages = missingPackages();
  if (packages.length === 0) return;
  const obstacle = installObstacle();
  if (obstacle) {
    say(`not installed, because ${obstacle}: ${packages.join(' ')}`);
    return;
  }
  say(`installing Debian packages: ${packages.join(' ')}`);
  const deadline = Date.now() + APT_BUDGET;
  const install = (names: string[]): string | undefined =>
    apt(['install', '--no-install-recommends', ...names], deadline);
  const failure = apt(['update'], deadline) ?? install(packages);
  if (!failure) return;
  say(`apt-get failed (${failure}); trying the packages one by one`);
  for (const name of missingPackages()) {
    const reason = install([name]);
    if (reason) say(`package ${name} could not be installed: ${reason}`);
  }
}

/** Newest change below a folder, in milliseconds. */
function newestChange(place: string): number {
  const status = statSync(place, { throwIfNoEntry: false });
  if (!status) return 0;
  if (!status.isDirectory()) return status.mtimeMs;
  return Math.max(status.mtimeMs, ...readdirSync(place).map((name) => newestChange(path.join(place, name))));
}

function isBuilt(): boolean {
  const inputs = ['src', 'scripts', 'tsconfig.json', 'tsconfig.build.json', 'package.json'];
  const changed = Math.max(...inputs.map((name) => newestChange(path.join(PROJECT_ROOT, name))));
  const manifest = statSync(path.join(PROJECT_ROOT, 'oclif.manifest.json'), { throwIfNoEntry: false });
  const output = statSync(path.join(PROJECT_ROOT, 'dist/index.js'), { throwIfNoEntry: false });
  return (
    manifest !== undefined && output !== undefined && Math.min(manifest.mtimeMs, output.mtimeMs) > changed
  );
}

/** @throws when the build fails and all tests were asked for; a run of chosen files only warns */
function build(chosen: string[]): void {
  if (isBuilt()) return;
  // These run the sources; only tests of the command line, and of killed processes, run what is built.
  const isInside = (name: string): boolean => /unit|conformance|crash/.test(name) && !name.includes('kill');
  if (chosen.length > 0 && chosen.every(isInside)) return;
  const result = spawnSync(process.execPath, ['scripts/build.mjs'], {
    cwd: PROJECT_ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 180_000,
  });
  if (result.status === 0) return;
  const output = `${result.stdout?.toString() ?? ''}${result.stderr?.toString() ?? ''}${result.error ?? ''}`;
  const message = `\`node scripts/build.mjs\` failed:\n${output.trim()}`;
  if (chosen.length === 0) throw new Error(message);
  say(`${message}\nTests that run the command line use what an earlier build left.`);
}

/** File filters of the command line (`vitest run test/unit`). */
function chosenFiles(): string[] {
  return process.argv.slice(2).filter((word) => word !== 'run' && word !== 'watch' && !word.startsWith('-'));
}

/** Gives back what a run that was killed left behind. */
function removeStaleRuns(): void {
  for (const name of readdirSync(os.tmpdir())) {
    const pid = new RegExp(`^${RUN_FOLDER_PREFIX}(\\d+)-`).exec(name)?.[1];
    if (pid === undefined || existsSync(`/proc/${pid}`) || !existsSync('/proc/self')) continue;
    const folder = path.join(os.tmpdir(), name);
    if (statSync(folder, { throwIfNoEntry: false })?.uid !== process.getuid?.()) continue;
    if (releaseAll(folder).length === 0) removeFolder(folder);
  }
}

function summarize(): void {
  const missing = missingTools();
  if (missing.length > 0) {
    const names = missing.map((name) => `${name} (package ${DEBIAN_PACKAGES[name]})`);
    say(`missing, their tests skip: ${names.join(', ')}`);
  }
  const mounts = (['xfs', 'btrfs', 'ext4', 'tmpfs'] as const).filter((kind) => !canMount(kind));
  if (mounts.length > 0)
    say(`can't be mounted here${isRoot ? '' : ' (needs root)'}, their tests skip: ${mounts.join(', ')}`);
  if (!canLoop()) say(`no loop devices here${isRoot ? '' : ' (needs root)'}: block device tests skip`);
  if (!existsSync(path.resolve(PROJECT_ROOT, '../shared/specimens')))
    say('no third-party specimen images beside the project: their tests skip');
}

/** Run by vitest before the first test; returns what is run after the last. */
export default function setup(): () => void {
  const chosen = chosenFiles();
  removeStaleRuns();
  const folder = createRunFolder();
  if (chosen.length === 0) installPackages();
  build(chosen);
  if (chosen.length === 0) summarize();
  return () => {
    const problems = releaseAll(folder);
    for (const problem of problems) say(problem);
    if (problems.length === 0) removeFolder(folder);
  };
}

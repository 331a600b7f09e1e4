/**
 * Rules of the whole tree: who imports whom, sizes, banned calls, nothing of one machine in what is kept.
 * The table is explained in docs/architecture.md; the checker is test/support/tidy.ts.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROJECT_ROOT } from './support/run.js';
import * as tidy from './support/tidy.js';

function filesBelow(folder: string): string[] {
  const absolute = path.join(PROJECT_ROOT, folder);
  if (!existsSync(absolute)) return [];
  return readdirSync(absolute, { recursive: true, encoding: 'utf8' })
    .map((name) => path.posix.join(folder, name.split(path.sep).join('/')))
    .filter((name) => statSync(path.join(PROJECT_ROOT, name)).isFile());
}

function load(name: string): tidy.Source {
  return { path: name, text: readFileSync(path.join(PROJECT_ROOT, name), 'utf8') };
}

const src = filesBelow('src').filter((name) => name.endsWith('.ts'));
const sources = src.map(load);
const tests = [...filesBelow('test'), ...filesBelow('fixtures')]
  .filter((name) => name.endsWith('.ts'))
  .map(load);

/** What git keeps, or (in an unpacked archive) what lies in the tree. */
function keptFiles(): string[] {
  const git = spawnSync('git', ['ls-files', '-z'], { cwd: PROJECT_ROOT, maxBuffer: 1 << 26 });
  if (git.status === 0)
    return git.stdout
      .toString()
      .split('\0')
      .filter((name) => name !== '' && existsSync(path.join(PROJECT_ROOT, name)));
  return ['src', 'test', 'fixtures', 'docs', 'bin', 'scripts'].flatMap(filesBelow);
}

/** Folders that tell where this copy lies. Too general ones would find innocent examples. */
function machinePlaces(): string[] {
  const general = [
    '/',
    '/tmp',
    '/var/tmp',
    '/home',
    '/Users',
    '/srv',
    '/opt',
    '/mnt',
    '/usr/src',
    '/app',
    '/src',
  ];
  return [PROJECT_ROOT, path.dirname(PROJECT_ROOT), os.homedir()].filter((place) => !general.includes(place));
}

describe('the tree', () => {
  it('has sources', () => {
    expect(src).toContain('src/base/errors.ts');
    expect(src.length).toBeGreaterThan(10);
  });
  it('imports in one direction', () => expect(tidy.checkImports(sources)).toEqual([]));
  it('has no import cycles', () => expect(tidy.checkCycles(sources)).toEqual([]));
  it('keeps the system at its edge', () => expect(sources.flatMap(tidy.checkBannedCalls)).toEqual([]));
  it('has files of a readable size', () =>
    expect([...sources, ...tests].flatMap(tidy.checkFileSize)).toEqual([]));
  it('has functions of a readable size', () => expect(sources.flatMap(tidy.checkFunctionSize)).toEqual([]));
  it('opens each source with what it is', () =>
    expect(sources.flatMap(tidy.checkOpeningComment)).toEqual([]));
  it('has no focused tests', () => expect(tests.flatMap(tidy.checkFocusedTests)).toEqual([]));
  it('records no download addresses in package-lock.json', () => {
    expect(load('package-lock.json').text).not.toContain('"resolved"');
  });
  it('mentions no path of the machine it was written on', () => {
    const texts = keptFiles()
      .map(load)
      .filter(({ text }) => !text.includes('\0'));
    expect(texts.length).toBeGreaterThan(10);
    expect(texts.flatMap((source) => tidy.checkMachinePaths(source, machinePlaces()))).toEqual([]);
  });
});

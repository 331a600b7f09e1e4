import { describe, expect, it } from 'vitest';
import * as tidy from '../../support/tidy.js';

const source = (path: string, text: string): tidy.Source => ({ path, text });
const complaints = (path: string, text: string) => tidy.checkImports([source(path, text)]);

describe('import table', () => {
  it.each([
    ['src/base/a.ts', "import { x } from '../io/b.js';"],
    ['src/io/a.ts', "import type { X } from '../formats/b.js';"],
    ['src/formats/a.ts', "export { x } from '../offload/b.js';"],
    ['src/offload/a.ts', "const x = await import('../formats/registry.js');"],
    ['src/block/a.ts', "type X = import('../formats/b.js').X;"],
    ['src/operations/a.ts', "import { x } from '../cli/b.js';"],
    ['src/cli/commands/a.ts', "import { x } from '../../io/b.js';"],
    ['src/cli/commands/a.ts', "import { x, type Y } from '../../formats/b.js';"],
    ['src/misc/a.ts', "import { x } from '../base/b.js';"],
    ['src/base/a.ts', "import { x } from '../../test/support/run.js';"],
  ])('%s may not hold %s', (path, text) => expect(complaints(path, text)).toHaveLength(1));

  it.each([
    ['src/io/a.ts', "import { x } from '../native/b.js';"],
    ['src/operations/a.ts', "import { x } from '../formats/registry.js';"],
    ['src/cli/commands/a.ts', "import { x } from '../../operations/b.js';"],
    ['src/cli/commands/a.ts', "import { type X, type Y } from '../../formats/b.js';"],
    ['src/index.ts', "export * from './operations/a.js';"],
  ])('%s may hold %s', (path, text) => expect(complaints(path, text)).toEqual([]));
});

describe('siblings', () => {
  it.each([
    ['src/formats/vhd/a.ts', "import { x } from '../vhdx/b.js';"],
    ['src/formats/chain.ts', "import { x } from './vhd/vhd-image.js';"],
    ['src/operations/a.ts', "import { x } from '../formats/vhdx/bat.js';"],
    ['src/offload/providers/reflink.ts', "import { x } from './buffered.js';"],
    ['src/offload/token.ts', "import { x } from './providers/zero.js';"],
    ['src/layers/cache/a.ts', "import { x } from '../snapshot/b.js';"],
  ])('%s may not hold %s', (path, text) => expect(complaints(path, text)).toHaveLength(1));

  it.each([
    ['src/formats/registry.ts', "import { x } from './vhd/driver.js';"],
    ['src/formats/vhd/a.ts', "import { x } from './footer.js'; import { y } from '../finding.js';"],
    ['src/offload/provider-set.ts', "import { x } from './providers/zero.js';"],
    ['src/layers/compose.ts', "import { x } from './cache/cache-device.js';"],
  ])('%s may hold %s', (path, text) => expect(complaints(path, text)).toEqual([]));
});

describe('libraries', () => {
  it.each([
    ['src/io/a.ts', "import koffi from 'koffi';"],
    ['src/native/a.ts', "import fs from 'node:fs';"],
    ['src/native/a.ts', "import fs from 'fs/promises';"],
    ['src/offload/a.ts', "import net from 'node:net';"],
    ['src/operations/a.ts', "import chalk from 'chalk';"],
    ['src/io/a.ts', "const koffi = require('koffi');"],
  ])('%s may not hold %s', (path, text) => expect(complaints(path, text)).toHaveLength(1));

  it('optional ones are imported by one file only', () => {
    const first = source('src/native/a.ts', "import koffi from 'koffi';");
    const second = source('src/native/b.ts', "const koffi = await import('koffi');");
    expect(tidy.checkImports([first])).toEqual([]);
    expect(tidy.checkImports([first, second])).toHaveLength(1);
  });
});

describe('cycles', () => {
  const a = source('src/base/a.ts', "import { b } from './b.js';");
  it('are found across several files', () => {
    const b = source('src/base/b.ts', "import { c } from './c.js';");
    const c = source('src/base/c.ts', "import { a } from './a.js';");
    expect(tidy.checkCycles([a, b, c])).toEqual([expect.stringContaining('src/base/a.ts -> src/base/b.ts')]);
  });
  it('of types alone are fine, and so is a diamond', () => {
    const b = source('src/base/b.ts', "import type { A } from './a.js'; import { d } from './d.js';");
    const c = source('src/base/c.ts', "import { b } from './b.js'; import { d } from './d.js';");
    expect(tidy.checkCycles([a, b, c, source('src/base/d.ts', '')])).toEqual([]);
  });
});

describe('banned calls', () => {
  it.each(['Date.now()', 'new Date()', 'Math.random()', 'console.log(1)', 'process.exit(1)'])(
    '%s',
    (call) => {
      expect(tidy.checkBannedCalls(source('src/io/a.ts', `export const x = () => ${call};`))).toHaveLength(1);
      expect(tidy.checkBannedCalls(source('src/cli/a.ts', `export const x = () => ${call};`))).toEqual([]);
    },
  );
  it('are not found in comments, strings and other names', () => {
    const text = "// Date.now()\nconst s = 'Math.random()'; const d = new Date(0); my.console.log(s, d);";
    expect(tidy.checkBannedCalls(source('src/io/a.ts', text))).toEqual([]);
  });
});

describe('sizes', () => {
  it('of files', () => {
    expect(tidy.checkFileSize(source('a.ts', 'x\n'.repeat(500)))).toEqual([]);
    expect(tidy.checkFileSize(source('a.ts', 'x\n'.repeat(501)))).toHaveLength(1);
  });
  it('of functions, methods and arrow functions', () => {
    const body = 'x();\n'.repeat(69);
    for (const head of ['function f() {', 'class A { f() {', 'const f = () => {']) {
      const tail = head.startsWith('class') ? '}}' : '}';
      expect(tidy.checkFunctionSize(source('a.ts', `${head}\n${body}${tail}`))).toHaveLength(1);
      expect(tidy.checkFunctionSize(source('a.ts', `${head}\n${body.slice(5)}${tail}`))).toEqual([]);
    }
  });
});

describe('other rules', () => {
  it('want an opening comment', () => {
    expect(tidy.checkOpeningComment(source('a.ts', '/**\n * What it is.\n */\n'))).toEqual([]);
    expect(tidy.checkOpeningComment(source('a.ts', '#!/usr/bin/env node\n/* What it is. */\n'))).toEqual([]);
    expect(tidy.checkOpeningComment(source('a.ts', '/** */\nexport {};'))).toHaveLength(1);
    expect(tidy.checkOpeningComment(source('a.ts', "import x from 'x';\n/** Late. */"))).toHaveLength(1);
  });
  it('find focused tests, chained ones too', () => {
    const focused = ['it', 'describe', 'test.concurrent'].map((name) => `${name}.on${'ly'}('x', () => {});`);
    for (const text of focused) expect(tidy.checkFocusedTests(source('a.ts', text))).toHaveLength(1);
    expect(tidy.checkFocusedTests(source('a.ts', "it.each([])('x'); set.only('y');"))).toEqual([]);
  });
  it('find paths of one machine as whole components', () => {
    const check = (text: string) => tidy.checkMachinePaths(source('a.md', text), ['/data/kit']);
    expect(check('see /data/kit/src')).toHaveLength(1);
    expect(check(`cd /ho${'me'}/alice/kit`)).toHaveLength(1);
    expect(check('see my/data/kit, /data/kitchen and /home/user/x')).toEqual([]);
  });
});

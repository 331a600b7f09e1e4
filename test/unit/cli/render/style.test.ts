import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { makeStyle, PLAIN, printable, wantsColor } from '../../../../src/cli/render/style.js';

describe('wantsColor', () => {
  const terminal = { isTTY: true };
  test.each([
    ['a terminal', undefined, terminal, {}, true],
    ['a pipe', undefined, {}, {}, false],
    ['NO_COLOR', undefined, terminal, { NO_COLOR: '1' }, false],
    ['empty NO_COLOR does not count', undefined, terminal, { NO_COLOR: '' }, true],
    ['TERM=dumb', undefined, terminal, { TERM: 'dumb' }, false],
    ['FORCE_COLOR', undefined, {}, { FORCE_COLOR: '1' }, true],
    ['FORCE_COLOR=0', undefined, terminal, { FORCE_COLOR: '0' }, false],
    ['--color wins', true, {}, { NO_COLOR: '1' }, true],
    ['--no-color wins', false, terminal, { FORCE_COLOR: '1' }, false],
  ] as const)('%s', (_, flag, stream, env, expected) => {
    expect(wantsColor(flag, stream, env)).toBe(expected);
  });
});

test('styles colour, or leave text alone', async () => {
  expect((await makeStyle(true)).red('x')).toBe('\u001b[31mx\u001b[39m');
  expect(await makeStyle(false)).toBe(PLAIN);
  expect(PLAIN.red('x')).toBe('x');
});

describe('printable', () => {
  test('leaves ordinary text of any language', () => {
    expect(printable('Ärger/ディスク (1).vhdx')).toBe('Ärger/ディスク (1).vhdx');
  });

  test('no control character survives', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/u.test(printable(text))).toBe(false);
      }),
    );
  });
});

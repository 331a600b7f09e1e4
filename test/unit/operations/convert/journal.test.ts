/**
 * Journals: what is cut, foreign or of another conversion is never followed.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeJournal,
  encodeJournal,
  type Journal,
  objection,
} from '../../../../src/operations/convert/journal.js';

const bytes = fc.record({ shared: fc.nat(), kernelCopied: fc.nat(), buffered: fc.nat(), zeroed: fc.nat() });
const journals: fc.Arbitrary<Journal> = fc.record({
  sources: fc.array(fc.array(fc.string(), { maxLength: 5 }), { minLength: 1, maxLength: 3 }),
  settings: fc.string(),
  position: fc.maxSafeNat(),
  fileSize: fc.maxSafeNat(),
  bytes,
});

const example: Journal = {
  sources: [['1', '2', '3', '4', '5']],
  settings: 'vhdx dynamic',
  position: 100,
  fileSize: 200,
  bytes: { shared: 1, kernelCopied: 2, buffered: 3, zeroed: 4 },
};

describe('journal', () => {
  it('round-trips', () => {
    fc.assert(
      fc.property(journals, (journal) => {
        expect(decodeJournal(encodeJournal(journal))).toMatchObject(journal);
      }),
    );
  });

  it('notices every cut and every changed character', () => {
    const text = encodeJournal(example);
    for (let length = 0; length < text.length - 1; length += 1) {
      expect(decodeJournal(text.slice(0, length))).toBeUndefined();
    }
    for (let at = text.indexOf('\n') + 1; at < text.length - 1; at += 1) {
      const other = text[at] === 'x' ? 'y' : 'x';
      expect(decodeJournal(text.slice(0, at) + other + text.slice(at + 1))).toBeUndefined();
    }
  });

  it.each(['', '{}', '{}\n{}', 'null\nnull', '\n\n\n', '[]'])('is not fooled by %j', (text) => {
    expect(decodeJournal(text)).toBeUndefined();
  });
});

describe('objection', () => {
  const now = { sources: example.sources, settings: example.settings, virtualSize: 1000, fileSize: 200 };

  it('has none against the same conversion', () => {
    expect(objection(example, now)).toBeUndefined();
  });

  it.each([
    ['a damaged journal', undefined, now, /journal/],
    ['another source', example, { ...now, sources: [['1', '2', '3', '4', '6']] }, /source/],
    ['a parent more', example, { ...now, sources: [...example.sources, ['9']] }, /source/],
    ['other settings', example, { ...now, settings: 'vhdx fixed' }, /options/],
    ['a shorter file', example, { ...now, fileSize: 199 }, /shorter/],
    ['a position outside the disk', example, { ...now, virtualSize: 99 }, /shorter/],
  ] as const)('names %s', (_name, journal, state, reason) => {
    expect(objection(journal, state)).toMatch(reason);
  });
});

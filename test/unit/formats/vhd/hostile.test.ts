import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { isVhdkitError, type VhdkitError } from '../../../../src/base/errors.js';
import type { OpenImageOptions } from '../../../../src/formats/disk-image.js';
import type { Finding } from '../../../../src/formats/finding.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { openVhd } from '../../../../src/formats/vhd/open.js';
import { HOSTILE_CASES } from './hostile-cases.js';
import {
  AT,
  KiB,
  sealFooter,
  sealHeader,
  smallChild,
  smallContent,
  smallDynamic,
  smallFixed,
  WatchedFile,
} from './images.js';

/** Longest read that any image may cause: a BAT page, a bitmap of the largest block, a piece of `check`. */
const LONGEST_READ = 256 * KiB;
const READ_AT_MOST = 256 * KiB;

type Outcome =
  | { kind: 'error'; error: unknown }
  | { kind: 'read'; content: Buffer; findings: readonly Finding[] };

/** Opens, locates everything, reads the beginning, examines. */
async function exercise(file: WatchedFile, options: OpenImageOptions = {}): Promise<Outcome> {
  try {
    const image = await openVhd(file, options);
    await image.locate(0, image.virtualSize);
    const content = Buffer.alloc(Math.min(image.virtualSize, READ_AT_MOST));
    await readDisk(image, content, 0);
    await image.layout();
    return { kind: 'read', content, findings: await image.check() };
  } catch (error) {
    return { kind: 'error', error };
  }
}

let bases: Record<'dynamic' | 'fixed' | 'child', Buffer>;
let contents: Record<'dynamic' | 'fixed' | 'child', Buffer>;

function readonlyFile(bytes: Uint8Array): WatchedFile {
  const file = new WatchedFile(bytes, 'hostile.vhd');
  file.writable = false;
  return file;
}

beforeAll(async () => {
  bases = { dynamic: await smallDynamic(), fixed: await smallFixed(), child: smallChild() };
  const child = await exercise(readonlyFile(bases.child));
  if (child.kind === 'error') throw child.error;
  contents = { dynamic: smallContent(), fixed: smallContent(), child: child.content };
});

describe('hostile VHDs', () => {
  it('are many, and the untouched images have nothing wrong', async () => {
    expect(HOSTILE_CASES.length).toBeGreaterThanOrEqual(80);
    expect(new Set(HOSTILE_CASES.map(({ base, name }) => `${base} ${name}`)).size).toBe(HOSTILE_CASES.length);
    for (const base of ['dynamic', 'fixed'] as const) {
      const outcome = await exercise(readonlyFile(bases[base]));
      expect(outcome).toMatchObject({ kind: 'read', findings: [] });
    }
  });

  it.each(HOSTILE_CASES.map((each) => [each.name, each] as const))('%s', async (_name, hostile) => {
    const bytes = hostile.mutate(Buffer.from(bases[hostile.base]));
    const file = readonlyFile(bytes);
    const started = performance.now();
    const outcome = await exercise(file);
    expect(performance.now() - started).toBeLessThan(2000);
    expect(file.longestRead).toBeLessThanOrEqual(LONGEST_READ);
    if (hostile.error) {
      expect(outcome.kind).toBe('error');
      const error = (outcome as { error: VhdkitError }).error;
      expect(isVhdkitError(error), String(error)).toBe(true);
      const { code, defect, offset } = hostile.error;
      expect({ code: error.code, defect: error.context.defect }).toEqual({ code, defect });
      expect(error.context.path).toBe('hostile.vhd');
      expect(error.context.offset).toBeTypeOf('number');
      if (offset !== undefined) expect(error.context.offset).toBe(offset);
      return;
    }
    if (outcome.kind === 'error') throw outcome.error;
    const found = outcome.findings.find(({ code }) => code === hostile.finding);
    expect(found, JSON.stringify(outcome.findings)).toBeDefined();
    expect(found?.offset).toBeTypeOf('number');
    if (hostile.same) expect(outcome.content.equals(contents[hostile.base])).toBe(true);
  });
});

const damage = fc.record({
  base: fc.constantFrom('dynamic', 'fixed', 'child' as const),
  flips: fc.array(
    fc.record({
      // Mostly into structures: payload bytes can't do harm.
      at: fc.oneof(
        { weight: 6, arbitrary: fc.integer({ min: 0, max: 3 * KiB }) },
        { weight: 2, arbitrary: fc.integer({ min: AT.endFooter, max: AT.length - 1 }) },
        { weight: 1, arbitrary: fc.integer({ min: 0, max: 80 * KiB }) },
      ),
      value: fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 })),
    }),
    { maxLength: 6 },
  ),
  keep: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.double({ min: 0, max: 1, noNaN: true })),
  reseal: fc.boolean(),
  tolerant: fc.boolean(),
});

describe('random damage', () => {
  it('ends in a VhdkitError with an offset, or in an image that can be read', async () => {
    await fc.assert(
      fc.asyncProperty(damage, async ({ base, flips, keep, reseal, tolerant }) => {
        const bytes = Buffer.from(bases[base]);
        for (const { at, value } of flips) if (at < bytes.length) bytes[at] = value;
        if (reseal) {
          sealFooter(bytes, bytes.length - 512);
          if (base !== 'fixed') {
            sealFooter(bytes, 0);
            sealHeader(bytes);
          }
        }
        const file = readonlyFile(bytes.subarray(0, Math.ceil(bytes.length * keep)));
        const started = performance.now();
        const outcome = await exercise(file, { tolerant });
        expect(performance.now() - started).toBeLessThan(5000);
        expect(file.longestRead).toBeLessThanOrEqual(LONGEST_READ);
        if (outcome.kind === 'read') return;
        expect(isVhdkitError(outcome.error), String((outcome.error as Error).stack)).toBe(true);
        expect((outcome.error as VhdkitError).context.offset).toBeTypeOf('number');
      }),
      { numRuns: 1500 },
    );
  });
});

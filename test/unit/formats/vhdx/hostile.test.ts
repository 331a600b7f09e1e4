import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { isVhdkitError } from '../../../../src/base/errors.js';
import type { DiskImage } from '../../../../src/formats/disk-image.js';
import { readDisk } from '../../../../src/formats/image-reader.js';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { type BuiltVhdx, buildVhdx, LOG_GUID, logPage, putLogEntry } from '../../../support/vhdx-builder.js';
import { CONTENT_CASES } from './hostile-contents.js';
import type { HostileCase } from './hostile-kit.js';
import { STRUCTURE_CASES } from './hostile-structures.js';

const HOSTILE_CASES: readonly HostileCase[] = [...STRUCTURE_CASES, ...CONTENT_CASES];

const PATTERN = Uint8Array.from({ length: MiB }, (_, at) => at * 13 + (at >>> 9));

async function build({ description, spoil }: HostileCase): Promise<BuiltVhdx> {
  const built = await buildVhdx({
    virtualSize: 16 * MiB,
    blocks: [{ index: 0, data: [{ offset: 0, bytes: PATTERN }] }],
    ...description,
  });
  await spoil?.(built);
  return built;
}

async function failure(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Opens and reads everything; with what it failed, and when. */
async function use(built: BuiltVhdx): Promise<{ opened?: DiskImage; error?: unknown }> {
  let opened: DiskImage | undefined;
  const error = await failure(async () => {
    opened = await vhdxDriver.open(built.file, {});
    const bytes = new Uint8Array(MiB);
    await readDisk(opened, bytes, 0);
    // What can be read is never wrong.
    expect(Buffer.compare(bytes, PATTERN)).toBe(0);
    await opened.locate(0, opened.virtualSize);
  });
  return { ...(opened ? { opened } : {}), error };
}

describe('broken images', () => {
  it('are at least 45, each with a name of its own', () => {
    const names = new Set(HOSTILE_CASES.map(({ name }) => name));
    expect(names.size).toBe(HOSTILE_CASES.length);
    expect(names.size).toBeGreaterThanOrEqual(45);
  });

  it.each(HOSTILE_CASES)('$name', async (hostile) => {
    const built = await build(hostile);
    const { opened, error } = await use(built);
    const { fails, finds } = hostile;
    if (fails) {
      if (!isVhdkitError(error)) throw error ?? new Error('was accepted');
      expect({ code: error.code, defect: error.context.defect }).toEqual({
        code: fails.code ?? 'IMAGE_CORRUPT',
        defect: fails.defect,
      });
      expect(error.context.offset).toBeTypeOf('number');
      expect(opened !== undefined).toBe(fails.at === 'locate');
    } else {
      expect(error).toBeUndefined();
    }
    if (!finds) return;
    const findings = (await opened?.check()) ?? [];
    for (const [code, severity] of finds) {
      expect(findings).toContainEqual(expect.objectContaining({ code, severity }));
      expect(findings.find((finding) => finding.code === code)?.offset).toBeTypeOf('number');
    }
  });
});

async function differencing(): Promise<BuiltVhdx> {
  const built = await buildVhdx({
    virtualSize: 4 * MiB,
    parent: { linkage: 'ab12cabe-e6b2-2345-93ef-c309e000c746', relativePath: '.\\p.vhdx' },
    logGuid: LOG_GUID,
    blocks: [
      { index: 0, present: [[3, 100]] },
      { index: 2, state: 6 },
    ],
  });
  await putLogEntry(built, MiB - 4096, {
    sequence: 3n,
    updates: [
      { offset: built.places.payload.get(2) ?? 0, page: logPage(3) },
      { offset: built.places.payload.get(0) ?? 0, zeros: 8192 },
    ],
  });
  return built;
}

/** Offsets where structures are, so that flips hit something. */
function interesting(built: BuiltVhdx): fc.Arbitrary<number> {
  const { log, logLength, metadata, bat } = built.places;
  const near = (start: number, length: number) => fc.integer({ min: start, max: start + length - 1 });
  return fc.oneof(
    near(0, 64),
    near(64 * 1024, 96),
    near(128 * 1024, 96),
    near(192 * 1024, 96),
    near(256 * 1024, 96),
    near(log, 8192),
    near(log + logLength - 4096, 200),
    near(metadata, 256),
    near(metadata + 65536, 256),
    near(bat, 64),
    near(0, built.file.size()),
  );
}

async function survives(bytes: Uint8Array): Promise<void> {
  const image = await vhdxDriver.open(new MemoryFile(bytes, 'fuzz'), {}).catch((error: unknown) => error);
  if (isVhdkitError(image)) return;
  if (image instanceof Error) throw image;
  const disk = image as DiskImage;
  const length = Math.min(disk.virtualSize, 64 * MiB);
  const error = await failure(() => disk.locate(0, length));
  if (error !== undefined && !isVhdkitError(error)) throw error;
  const findings = await disk.check();
  // What cannot be located must be an error of check.
  if (error) expect(findings.some(({ severity }) => severity === 'error')).toBe(true);
  await disk.layout();
}

describe('fuzzing a small image with log, parent and bitmap', () => {
  it('flipped bytes lead to a VhdkitError or to success', async () => {
    const built = await differencing();
    const original = built.file.bytes();
    const flip = fc.tuple(interesting(built), fc.integer({ min: 1, max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(flip, { minLength: 1, maxLength: 4 }), async (flips) => {
        const undo = flips.map(([at]) => [at, original[at] ?? 0] as const);
        for (const [at, mask] of flips) original[at] = (original[at] ?? 0) ^ mask;
        try {
          await survives(original);
        } finally {
          for (const [at, byte] of undo) original[at] = byte;
        }
      }),
      { numRuns: 300 },
    );
  });

  it('truncation anywhere leads to a VhdkitError or to success', async () => {
    const bytes = (await differencing()).file.bytes();
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length), (size) => survives(bytes.subarray(0, size))),
      { numRuns: 100 },
    );
  });
});

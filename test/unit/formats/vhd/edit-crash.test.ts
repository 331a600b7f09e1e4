/**
 * Writes into small blocks, several at a time, taken back, discarded, over images of other programs: what a
 * crash or a full disk leaves opens and shows in every sector something that was there.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PreparedWrite } from '../../../../src/block/extent.js';
import type { EditableImage } from '../../../../src/formats/editable-image.js';
import { differencingVhd } from '../../../support/vhd-differencing.js';
import { bytesOf, complaints, editBytes, newImage, openInstant, shown } from './editing.js';
import { CHILD_ID, KiB, PARENT_ID, patterned, put } from './images.js';

const BLOCK = 4 * KiB;
const BLOCKS = 12;
const SIZE = BLOCKS * BLOCK - 512;
const SECTORS = SIZE / 512;

/** A child packed by another program: blocks at odd sectors, the first right behind the table. */
function packedChild(): Uint8Array {
  const blocks = [2, 7].map((index) => ({
    index,
    sectors: new Map([0, 3, 4].map((sector) => [sector, 0x40 + sector] as const)),
  }));
  return differencingVhd({ size: SIZE, uniqueId: CHILD_ID, parentId: PARENT_ID, blockSize: BLOCK, blocks });
}

const images: [string, () => Promise<Uint8Array>][] = [
  ['fixed', () => newImage('fixed', SIZE, BLOCK, (disk) => put(disk, 0, patterned(SIZE, 1)))],
  ['dynamic', () => newImage('dynamic', SIZE, BLOCK, (disk) => put(disk, BLOCK, patterned(3 * BLOCK, 1)))],
  ['differencing', () => newImage('differencing', SIZE, BLOCK)],
  ['packed differencing', async () => packedChild()],
  [
    'dynamic without a footer at the end',
    async () =>
      (await newImage('dynamic', SIZE, BLOCK, (disk) => put(disk, 0, patterned(BLOCK, 1)))).slice(0, -512),
  ],
];

type Step =
  | { kind: 'write'; at: number; sectors: number; fill: number; end: 'commit' | 'abort' }
  | { kind: 'two'; at: number; other: number; fill: number }
  | { kind: 'zero'; at: number; sectors: number }
  | { kind: 'discard'; at: number; sectors: number }
  | { kind: 'flush' };

const position = fc.integer({ min: 0, max: SECTORS - 1 });
const sectors = fc.integer({ min: 1, max: 30 });
const fill = fc.integer({ min: 1, max: 255 });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('write' as const),
    at: position,
    sectors,
    fill,
    end: fc.constantFrom('commit' as const, 'commit' as const, 'abort' as const),
  }),
  fc.record({ kind: fc.constant('two' as const), at: position, other: position, fill }),
  fc.record({ kind: fc.constant('zero' as const), at: position, sectors }),
  fc.record({ kind: fc.constant('discard' as const), at: position, sectors }),
  fc.constant({ kind: 'flush' as const }),
);

async function fillPlaces(write: PreparedWrite, byte: number): Promise<void> {
  for (const place of write.places)
    await place.file.write(Buffer.alloc(place.length, byte), place.fileOffset);
}

async function apply(image: EditableImage, step: Step): Promise<void> {
  if (step.kind === 'flush') return image.flush();
  const offset = step.at * 512;
  const length = 'sectors' in step ? Math.min(step.sectors * 512, SIZE - offset) : 512;
  if (step.kind === 'zero' || step.kind === 'discard') {
    await image[step.kind](offset, length);
    return;
  }
  const write = await image.prepareWrite(offset, length);
  if (step.kind === 'write') {
    await fillPlaces(write, step.fill);
    return step.end === 'commit' ? write.commit() : write.abort();
  }
  // Two writes whose bytes are moved at once, as a session does; never two in one block.
  const apart = Math.floor(step.at / 8) !== Math.floor(step.other / 8);
  const second = apart ? await image.prepareWrite(step.other * 512, 512) : undefined;
  await image.flush();
  if (second) await fillPlaces(second, step.fill ^ 1);
  await fillPlaces(write, step.fill);
  await second?.commit();
  await write.commit();
}

/** Every content that each sector had, or was being given. */
class History {
  readonly #known = Array.from({ length: SECTORS }, () => new Set<string>());

  add(content: Buffer): void {
    for (const [sector, known] of this.#known.entries()) {
      known.add(content.toString('latin1', sector * 512, sector * 512 + 512));
    }
  }

  /** What a step puts into sectors even where it is taken back (places that are in use show at once). */
  addStep(step: Step): void {
    if (step.kind !== 'write') return;
    const text = Buffer.alloc(512, step.fill).toString('latin1');
    const end = Math.min(SECTORS, step.at + step.sectors);
    for (let sector = step.at; sector < end; sector += 1) this.#known[sector]?.add(text);
  }

  stranger(content: Buffer): number {
    return this.#known.findIndex(
      (known, sector) => !known.has(content.toString('latin1', sector * 512, sector * 512 + 512)),
    );
  }
}

describe.each(images)('a %s VHD being changed', (_name, make) => {
  it('shows nothing that was never there, whenever it crashes', async () => {
    const bytes = await make();
    await fc.assert(
      fc.asyncProperty(
        fc
          .array(step, { minLength: 1, maxLength: 8 })
          .filter((list) => list.some(({ kind }) => kind !== 'flush')),
        fc.integer({ min: 1, max: 1e9 }),
        async (steps, seed) => {
          const { disk, edit } = editBytes(bytes);
          const image = await edit();
          const history = new History();
          history.add(await shown(image));
          for (const each of steps) {
            history.addStep(each);
            await apply(image, each);
            history.add(await shown(image));
          }
          const last = await shown(image);
          await image.flush();
          expect((await shown(image)).equals(last)).toBe(true);
          await image.close();
          const again = await edit();
          expect((await shown(again)).equals(last)).toBe(true);
          expect((await complaints(bytesOf(disk))).filter((text) => !text.startsWith('VHD_UNUSED'))).toEqual(
            [],
          );
          for (const instant of disk.states({ seed, reorderings: 2 })) {
            const found = await openInstant(instant);
            const stranger = history.stranger(await shown(found));
            if (stranger >= 0) throw new Error(`${instant.label}: sector ${stranger}`);
          }
        },
      ),
      { numRuns: 15, endOnFailure: true },
    );
  });

  it('survives a full disk at any write, and goes on when there is room', async () => {
    const bytes = await make();
    for (let room = 0; room < 14; room += 1) {
      const { disk, edit } = editBytes(bytes);
      const image = await edit();
      const before = await shown(image);
      const wanted = Buffer.from(before);
      disk.fullAfter(room);
      const change = async () => {
        await image.zero(6 * BLOCK, BLOCK);
        await put(image, 5 * BLOCK - 1024, patterned(BLOCK, 8));
        await image.flush();
      };
      const outcome = await change().then(
        () => 'done',
        (error: { code?: string }) => error.code,
      );
      expect(['done', 'NO_SPACE']).toContain(outcome);
      disk.fullAfter(Number.POSITIVE_INFINITY);
      await change();
      wanted.fill(0, 6 * BLOCK, 7 * BLOCK);
      patterned(BLOCK, 8).copy(wanted, 5 * BLOCK - 1024);
      await image.close();
      const again = await edit();
      expect((await shown(again)).equals(wanted), `room for ${room} writes`).toBe(true);
      expect((await complaints(bytesOf(disk))).filter((text) => !text.startsWith('VHD_UNUSED'))).toEqual([]);
    }
  });
});

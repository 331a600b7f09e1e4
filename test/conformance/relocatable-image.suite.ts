/**
 * The suite every relocatable image passes: units can be moved about, the disk shows the same at every
 * instant at which a crash could strike, and the tables are sound all the time.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { systemRandom } from '../../src/base/random.js';
import type { FormatId } from '../../src/formats/disk-image.js';
import { readDisk } from '../../src/formats/image-reader.js';
import { createImage, editImage, openImage } from '../../src/formats/registry.js';
import { isRelocatable, type RelocatableImage } from '../../src/formats/relocatable-image.js';
import { MemoryFile } from '../../src/io/memory-file.js';
import { TokenManager } from '../../src/offload/token-manager.js';
import { fillPlan } from '../../src/operations/rearrange/fill-plan.js';
import { carryOut } from '../../src/operations/rearrange/mover.js';
import { OrderPlan } from '../../src/operations/rearrange/order-plan.js';
import { type Ground, UnitTable } from '../../src/operations/rearrange/unit-table.js';
import { CrashDisk } from '../support/crash-disk.js';

export interface RelocatableSubject {
  name: string;
  format: FormatId;
  blockSize: number;
  sectorSize?: 512 | 4096;
  /** Blocks of the disk; its last block is cut. */
  blocks: number;
  align?: number;
}

const clock = { now: () => 1.7e12 };
const random = systemRandom;
const NAME = 'image';
const session = {
  provider: 'auto',
  zeros: 'holes',
  manager: new TokenManager({ clock, random }),
} as const;

async function edit(disk: CrashDisk, subject: RelocatableSubject): Promise<RelocatableImage> {
  const file = await disk.fileSystem().open(NAME, { writable: true });
  const image = await editImage(file, { clock, random }, { format: subject.format });
  if (!isRelocatable(image)) throw new Error(`${subject.name} is not relocatable`);
  return image;
}

/** An image whose blocks were written in the order given, some of them discarded again. */
async function scattered(
  subject: RelocatableSubject,
  order: readonly number[],
  discarded: readonly number[],
): Promise<{ disk: CrashDisk; model: Buffer }> {
  const size = subject.blocks * subject.blockSize - 4096;
  const file = new MemoryFile(new Uint8Array(0), NAME);
  const created = await createImage(file, subject.format, {
    type: 'dynamic',
    virtualSize: size,
    blockSize: subject.blockSize,
    ...(subject.sectorSize ? { logicalSectorSize: subject.sectorSize } : {}),
    clock,
    random,
  });
  await created.flush();
  const disk = new CrashDisk([[NAME, file.bytes()]]);
  const image = await edit(disk, subject);
  const model = Buffer.alloc(size);
  for (const block of order) {
    const offset = block * subject.blockSize;
    const bytes = Buffer.alloc(Math.min(8192, size - offset), block + 1);
    const write = await image.prepareWrite(offset, bytes.length);
    for (const place of write.places) {
      await place.file.write(
        bytes.subarray(place.offset - offset, place.offset - offset + place.length),
        place.fileOffset,
      );
    }
    await write.commit();
    bytes.copy(model, offset);
  }
  await image.flush();
  for (const block of discarded) {
    const offset = block * subject.blockSize;
    const length = Math.min(subject.blockSize, size - offset);
    await image.discard(offset, length, { unchanged: true });
    model.fill(0, offset, offset + length);
  }
  await image.flush();
  await image.close();
  return { disk, model };
}

async function contentOf(
  bytes: Uint8Array,
  subject: RelocatableSubject,
): Promise<{ content: Buffer; errors: unknown[] }> {
  const image = await openImage(new MemoryFile(bytes, NAME), { format: subject.format });
  const content = Buffer.alloc(image.virtualSize);
  await readDisk(image, content, 0);
  const findings = [...image.warnings, ...(await image.check())];
  return { content, errors: findings.filter(({ severity }) => severity === 'error') };
}

/** Everything a crash could leave shows the model. */
async function assertSafe(
  disk: CrashDisk,
  model: Buffer,
  subject: RelocatableSubject,
  seed: number,
): Promise<void> {
  const every = Math.max(1, Math.floor(disk.count / 30));
  for (const { state, label } of disk.states({ seed, every, reorderings: 1 })) {
    const { content, errors } = await contentOf(state.get(NAME) ?? new Uint8Array(0), subject);
    if (!content.equals(model)) throw new Error(`${label}: the disk shows something else`);
    if (errors.length > 0) throw new Error(`${label}: ${JSON.stringify(errors)}`);
  }
}

function groundOf(image: RelocatableImage, align: number | undefined): Ground {
  return { immovable: image.immovable(), placeFrom: (offset) => image.placeFrom(offset, align) };
}

function shuffles(subject: RelocatableSubject) {
  const all = Array.from({ length: subject.blocks }, (_, index) => index);
  return fc.record({
    order: fc.shuffledSubarray(all, { minLength: 2 }),
    seed: fc.integer({ min: 1, max: 2 ** 31 }),
  });
}

export function relocatableImageSuite(subject: RelocatableSubject): void {
  describe(`relocatable image contract: ${subject.name}`, () => {
    it('is brought into order without a moment at which it shows something else', async () => {
      await fc.assert(
        fc.asyncProperty(shuffles(subject), async ({ order, seed }) => {
          const { disk, model } = await scattered(subject, order, []);
          disk.start();
          const image = await edit(disk, subject);
          const linkId = image.linkId;
          const units = await UnitTable.of(image.units());
          expect(units.count).toBe(order.length);
          const plan = new OrderPlan(units, groundOf(image, subject.align), { bytes: 1 << 24, moves: 3 });
          for (let moves = plan.nextRound(); moves.length > 0; moves = plan.nextRound()) {
            await carryOut(image, units, moves, session);
            await image.flush();
          }
          await image.trim();
          expect(image.linkId).toBe(linkId);
          expect((await image.layout()).extents).toBe(1);
          expect((await image.layout()).payloadAlignment).toBeGreaterThanOrEqual(subject.align ?? 4096);
          await image.close();
          await assertSafe(disk, model, subject, seed);
          const last = await contentOf(disk.files().get(NAME) ?? new Uint8Array(0), subject);
          expect(last.content.equals(model)).toBe(true);
        }),
        { numRuns: 2, endOnFailure: true },
      );
    });

    it('fills gaps from the end and is cut off, without a moment at which it shows something else', async () => {
      await fc.assert(
        fc.asyncProperty(shuffles(subject), async ({ order, seed }) => {
          const discarded = order.filter((_, index) => index % 2 === 0);
          const { disk, model } = await scattered(subject, order, discarded);
          const before = disk.files().get(NAME)?.length ?? 0;
          disk.start();
          const image = await edit(disk, subject);
          const units = await UnitTable.of(image.units());
          expect(units.count).toBe(order.length - discarded.length);
          const moves = [...fillPlan(units, groundOf(image, undefined))];
          const planned = moves.map((move) => ({ ...move, from: units.offset(move.row) }));
          await carryOut(image, units, planned, session);
          await image.flush();
          await image.trim();
          await image.close();
          const file = disk.files().get(NAME) ?? new Uint8Array(0);
          expect(file.length).toBeLessThanOrEqual(before);
          const again = await openImage(new MemoryFile(file, NAME), { format: subject.format });
          expect((await again.check()).filter(({ severity }) => severity !== 'note')).toEqual([]);
          await assertSafe(disk, model, subject, seed);
        }),
        { numRuns: 2, endOnFailure: true },
      );
    });

    it('writes into images that were rearranged, in the same session', async () => {
      const { disk, model } = await scattered(subject, [3, 1, 2, 0], [3]);
      const image = await edit(disk, subject);
      const units = await UnitTable.of(image.units());
      const moves = [...fillPlan(units, groundOf(image, undefined))];
      await carryOut(
        image,
        units,
        moves.map((move) => ({ ...move, from: units.offset(move.row) })),
        session,
      );
      await image.flush();
      for (const block of [3, 4]) {
        const offset = block * subject.blockSize;
        const write = await image.prepareWrite(offset, 4096);
        for (const place of write.places)
          await place.file.write(Buffer.alloc(place.length, 0x77), place.fileOffset);
        await write.commit();
        model.fill(0x77, offset, offset + 4096);
      }
      await image.flush();
      await image.close();
      const last = await contentOf(disk.files().get(NAME) ?? new Uint8Array(0), subject);
      expect(last.content.equals(model)).toBe(true);
      expect(last.errors).toEqual([]);
    });
  });
}

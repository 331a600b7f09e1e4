/**
 * Carries out moves of units within an image's file.
 *
 * Invariant: what is said to be elsewhere was copied there before, and `flush` makes the copies durable
 * before the tables that name them. The caller gives only moves to places where nothing lies.
 */
import type { Extent } from '../../block/extent.js';
import type { RelocatableImage } from '../../formats/relocatable-image.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { type SessionOptions, transfer } from '../../offload/transfer-session.js';
import type { BytesMoved, TransferTarget } from '../../offload/transfer-types.js';
import type { PlannedMove, UnitTable } from './unit-table.js';

/** The file as a disk of its own: offsets of the disk are offsets of the file. */
export function fileAsTarget(file: RandomAccessFile): TransferTarget {
  const nothing = async (): Promise<void> => undefined;
  return {
    file,
    unwrittenIsZero: false,
    prepareWrite: async (offset, length) => ({
      places: [{ offset, length, file, fileOffset: offset }],
      commit: nothing,
      abort: nothing,
    }),
  };
}

/**
 * Copies the units and tells the image where they are. Not durable before the image's `flush`.
 * @throws what `transfer` throws
 */
export async function carryOut(
  image: RelocatableImage,
  units: UnitTable,
  moves: readonly PlannedMove[],
  session: SessionOptions,
): Promise<BytesMoved> {
  const ordered = [...moves].sort((a, b) => a.to - b.to);
  const end = ordered.reduce((max, { row, to }) => Math.max(max, to + units.length(row)), 0);
  await image.makeRoom(end);
  async function* extents(): AsyncGenerator<Extent> {
    for (const { row, from, to } of ordered) {
      yield { state: 'data', offset: to, length: units.length(row), file: image.file, fileOffset: from };
    }
  }
  const bytes = await transfer(extents(), fileAsTarget(image.file), { ...session, zeros: 'holes' });
  for (const { row, to } of ordered) await image.relocate(units.id(row), to);
  return bytes;
}

/**
 * Cuts the file off behind what it holds. An image that is as short as it can be is not touched.
 * @param units as they are in the file
 */
export async function cutOff(image: RelocatableImage, units: UnitTable): Promise<number> {
  const fixed = image.immovable().at(-1);
  const end = Math.max(units.fileEnd(), fixed ? fixed.offset + fixed.length : 0);
  return image.file.size() <= image.lengthFor(end) ? 0 : image.trim();
}

/**
 * Putting bytes onto a disk through a prepared write: the twin of reading through `locate`.
 */
import type { Place, PreparedWrite } from './extent.js';

/**
 * Writes the bytes and commits them; aborts when writing fails. Durable after the target's `flush`.
 * @returns where they were put
 */
export async function putBytes(
  target: { prepareWrite(offset: number, length: number): Promise<PreparedWrite> },
  offset: number,
  bytes: Uint8Array,
): Promise<readonly Place[]> {
  const prepared = await target.prepareWrite(offset, bytes.length);
  try {
    for (const place of prepared.places) {
      const at = place.offset - offset;
      await place.file.write(bytes.subarray(at, at + place.length), place.fileOffset);
    }
  } catch (error) {
    await prepared.abort().catch(() => undefined);
    throw error;
  }
  await prepared.commit();
  return prepared.places;
}

/**
 * Whether an image is still what its snapshots were made of.
 *
 * A snapshot reads through to the image, so every change must go through the volume. How the image was left is
 * recorded; another size or time of modification means that something else changed it. After a process that died
 * with the image open nobody can tell, and a killed process is far more likely than somebody who wrote afterwards.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { isSameStamp, stampOf } from '../image-stamp.js';
import type { SnapshotRecord } from './record.js';

/**
 * `not-closed`: whoever had it open died; accepted. `unknown`: a block device, which has no times; only its
 * size is compared.
 */
export type ImageState = 'unchanged' | 'changed' | 'not-closed' | 'unknown';

export function imageState(record: SnapshotRecord, file: RandomAccessFile): ImageState {
  if (file.size() !== record.imageSize) return 'changed';
  const now = stampOf(file);
  if (!now) return 'unknown';
  if (record.open) return 'not-closed';
  if (!record.stamp) return 'unknown';
  return isSameStamp(record.stamp, now) ? 'unchanged' : 'changed';
}

/**
 * `check --undo`: puts an image back to what it was before a repair, byte for byte.
 *
 * Invariants: the whole backup is read and verified before the first byte is written. An image that was changed
 * after the repair is refused: its new tables and the old ones do not belong together. Undoing can be repeated;
 * the backup stays.
 */
import { basename } from 'node:path';
import { VhdkitError } from '../../base/errors.js';
import {
  backupLines,
  damaged,
  isSavedRange,
  readHead,
  type SavedRange,
  savedBytes,
} from '../../io/backup-journal.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { Host } from '../host.js';
import { openToChange } from '../token/own-changes.js';
import { contentOf } from './backup.js';

export interface UndoOptions {
  path: string;
  /** The file that the repair wrote. */
  backup: string;
  /** Even when the image is not as the repair left it. */
  force?: boolean;
}

export interface UndoResult {
  path: string;
  backup: string;
  /** Bytes put back. */
  restored: number;
  fileSize: number;
}

function refuse(path: string, message: string, hint: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', `${path}: ${message}`, {
    operation: 'undo repair',
    context: { path },
    hint,
  });
}

/** @throws IMAGE_CORRUPT (the backup), INVALID_ARGUMENT (does not fit), IN_USE, NOT_FOUND, NO_SPACE, IO_FAILED */
export async function undoRepair(host: Host, options: UndoOptions): Promise<UndoResult> {
  const { fileSystem } = host;
  const lock = await fileSystem.lock(options.path);
  try {
    const journal = await fileSystem.open(options.backup, { writable: true });
    const file = await openToChange(host, options.path);
    try {
      const size = await verify(journal, file, options);
      // From now on the image is between two states: the next undoing goes on with it.
      await markBegun(journal);
      const restored = await restore(journal, file, size);
      return { path: options.path, backup: options.backup, restored, fileSize: file.size() };
    } finally {
      await file.close();
      await journal.close();
    }
  } finally {
    await lock.release();
  }
}

async function* ranges(journal: RandomAccessFile): AsyncGenerator<SavedRange> {
  for await (const line of backupLines(journal)) if (isSavedRange(line)) yield line;
}

/** Answers the length of the image before the repair. */
async function verify(
  journal: RandomAccessFile,
  file: RandomAccessFile,
  { path, force = false }: UndoOptions,
): Promise<number> {
  const head = await readHead(journal);
  const saved: [number, number][] = [];
  let done: { size: number; crc: number } | undefined;
  let isBegun = false;
  let isTorn = false;
  for await (const line of backupLines(journal)) {
    // Only the line that an interrupted repair wrote last protected nothing.
    if (isTorn && !('undone' in line)) throw damaged(journal.path, 'a line of it is damaged');
    isTorn = 'torn' in line;
    if (isSavedRange(line)) {
      checkRange(line, head.size, journal.path);
      savedBytes(line, journal.path);
      saved.push([line.offset, line.offset + line.length]);
      continue;
    }
    if ('blocksMoved' in line) {
      const hint =
        'The contents are as before; the backup has the old tables for whoever looks into what was dropped.';
      throw refuse(path, 'the repair gave back so much space that its blocks were not saved', hint);
    }
    if ('done' in line) done = line.done as { size: number; crc: number };
    if ('undone' in line) isBegun = true;
  }
  if (isTorn) throw damaged(journal.path, 'a line of it is damaged');
  if (force || isBegun) return head.size;
  const hint =
    'Undoing would mix old and new tables. Use --force when you are sure that nothing wrote into the image.';
  if (!done && head.image !== basename(path))
    throw refuse(path, `the backup is of an image named '${head.image}'`, hint);
  saved.sort(([a], [b]) => a - b);
  const isAsLeft = !done || (file.size() === done.size && (await contentOf(file, saved)) === done.crc);
  if (!isAsLeft) throw refuse(path, 'was changed after the repair', hint);
  return head.size;
}

function checkRange({ offset, length }: SavedRange, size: number, path: string): void {
  const isInside = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (isInside && offset + length <= size) return;
  throw refuse(path, 'is no backup of a repair', 'Give the file that `check --repair` named.');
}

async function markBegun(journal: RandomAccessFile): Promise<void> {
  await journal.write(Buffer.from('\n{"undone":true}\n'), journal.size());
  await journal.flush();
}

async function restore(journal: RandomAccessFile, file: RandomAccessFile, size: number): Promise<number> {
  let restored = 0;
  if (file.size() < size) await file.truncate(size);
  for await (const range of ranges(journal)) {
    if (range.bytes === undefined) await file.zero(range.offset, range.length);
    else await file.write(savedBytes(range, journal.path), range.offset);
    restored += range.length;
  }
  await file.flush();
  if (file.size() > size) await file.truncate(size);
  await file.flush();
  return restored;
}

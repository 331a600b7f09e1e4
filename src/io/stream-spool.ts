/**
 * An unnamed temporary file: where a stream is put that must be read out of order.
 *
 * Invariant: the name is gone before the first byte is written, so nothing is left behind however the
 * process ends.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NodeFile } from './node-file.js';
import { guarded, openDescriptor } from './node-path.js';
import type { RandomAccessFile } from './random-access-file.js';

/** The folder for temporary files where nothing else is asked for: TMPDIR, or the system's. */
export function temporaryFolder(): string {
  return tmpdir();
}

/**
 * Makes the file in a folder. `name` is what messages call it.
 * @throws NOT_FOUND, PERMISSION_DENIED, NO_SPACE, IO_FAILED
 */
export async function createSpool(folder: string, name: string): Promise<RandomAccessFile> {
  const path = join(folder, `.vhdkit-${randomBytes(8).toString('hex')}.spool`);
  const { O_RDWR, O_CREAT, O_EXCL } = fs.constants;
  const fd = await guarded('create a temporary file in', folder, () =>
    openDescriptor(path, O_RDWR | O_CREAT | O_EXCL, 0o600),
  );
  const file = new NodeFile(name, fd, 'file', true);
  try {
    await guarded('unlink', path, () => fs.rm(path));
  } catch (error) {
    await file.close();
    throw error;
  }
  return file;
}

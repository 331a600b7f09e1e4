/**
 * The two files of a preserved volume: the copies, at the addresses that they have in the base, and the look-up table.
 *
 * Invariant: either both are open or none. What they mean is in volume-pair.ts.
 */
import { join } from 'node:path';
import type { FileSystem } from '../../io/file-system.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { removeIfThere, replaceFile } from '../../io/small-file.js';
import { LookupTable, type TableShape } from './lookup-table.js';

const COPIES = 'copies';
const TABLE = 'table';

export interface Copies {
  readonly data: RandomAccessFile;
  readonly table: LookupTable;
}

async function newFile(fileSystem: FileSystem, path: string): Promise<RandomAccessFile> {
  await replaceFile(fileSystem, path, new Uint8Array(0));
  return fileSystem.open(path, { writable: true });
}

/** Empty ones, durable when it returns. @throws NO_SPACE, PERMISSION_DENIED, IO_FAILED */
export async function createCopies(
  fileSystem: FileSystem,
  folder: string,
  shape: TableShape,
): Promise<Copies> {
  const data = await newFile(fileSystem, join(folder, COPIES));
  try {
    await data.truncate(shape.size);
    await data.flush();
    return { data, table: await LookupTable.create(await newFile(fileSystem, join(folder, TABLE)), shape) };
  } catch (error) {
    await data.close();
    throw error;
  }
}

/** @throws NOT_FOUND, IMAGE_CORRUPT (the look-up table), IO_FAILED */
export async function openCopies(
  fileSystem: FileSystem,
  folder: string,
  options: { writable: boolean },
): Promise<Copies> {
  const data = await fileSystem.open(join(folder, COPIES), options);
  try {
    return { data, table: await LookupTable.open(await fileSystem.open(join(folder, TABLE), options)) };
  } catch (error) {
    await data.close();
    throw error;
  }
}

export async function closeCopies({ data, table }: Copies): Promise<void> {
  try {
    await data.close();
  } finally {
    await table.close();
  }
}

/** Whatever there is of them. */
export async function removeCopies(fileSystem: FileSystem, folder: string): Promise<void> {
  await removeIfThere(fileSystem, join(folder, TABLE));
  await removeIfThere(fileSystem, join(folder, COPIES));
}

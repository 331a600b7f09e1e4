/**
 * What the file system says about a file's extents, asked through filefrag(8): the independent witness
 * that bytes were shared and not copied.
 */
import { must } from './run.js';

export interface FileExtents {
  /** Bytes in extents that another file uses too. */
  shared: number;
  /** Bytes in extents of this file alone. */
  own: number;
}

const ROW = /^\s*\d+:\s*\d+\.\.\s*\d+:\s*\d+\.\.\s*\d+:\s*(\d+):(.*)$/;

/** Counts the bytes of a file's written extents by whether they are shared. Flushes the file first. */
export async function fileExtents(file: string): Promise<FileExtents> {
  const { stdout } = await must('filefrag', ['-s', '-v', '-b512', file]);
  return parseFilefrag(stdout, 512);
}

/** Reads the table of `filefrag -v -bUNIT`. Unwritten (preallocated) extents hold no bytes. */
export function parseFilefrag(text: string, unit: number): FileExtents {
  const result: FileExtents = { shared: 0, own: 0 };
  for (const line of text.split('\n')) {
    const row = ROW.exec(line);
    if (!row) continue;
    const [, length = '0', rest = ''] = row;
    if (/\bunwritten\b/.test(rest)) continue;
    if (/\bshared\b/.test(rest)) result.shared += Number(length) * unit;
    else result.own += Number(length) * unit;
  }
  return result;
}

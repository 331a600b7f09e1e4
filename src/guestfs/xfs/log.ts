/**
 * Whether the log of XFS is empty: its last record must be the one that unmounting writes.
 *
 * Invariant: "clean" is answered only for a log whose blocks show exactly one place where writing stopped
 * (cycle numbers fall by one there), right behind an unmount record of this file system. The whole log is
 * read, in pieces; memory does not depend on its size.
 *
 * Source: XFS Algorithms & Data Structures, "Journaling Log"; Linux, fs/xfs/libxfs/xfs_log_format.h.
 */
import { inconsistent } from '../inconsistent.js';
import type { ReadBytes } from '../partition-table.js';
import { inPieces, viewOf } from '../volume-bytes.js';
import type { XfsSuperblock } from './superblock.js';

/** The log counts in basic blocks whatever the sectors are. Bytes. */
const BASIC_BLOCK = 512;
const HEADER_MAGIC = 0xfeedbabe;
const HEADER = { cycle: 4, version: 8, length: 12, lsn: 16, operations: 40, uuid: 304, size: 320 } as const;
const VERSION_2 = 2;
/** A header names the cycles of so many bytes; longer records have more header blocks. */
const BYTES_PER_HEADER = 32 * 1024;
const MAX_RECORD = 256 * 1024;
const OPERATION_FLAGS_AT = 9;
const UNMOUNT = 0x20;

interface Scan {
  blocks: number;
  /** First block of the older cycle; equal to `blocks` when all are of one cycle. */
  head: number;
  /** The last record header before the head, or in all of the log when there is none. */
  lastHeader: number | undefined;
}

/** Finds where writing stopped. */
async function scan(read: ReadBytes, length: number): Promise<Scan> {
  const blocks = Math.floor(length / BASIC_BLOCK);
  let current: number | undefined;
  let head = blocks;
  let before: number | undefined;
  let behind: number | undefined;
  for await (const { offset, bytes } of inPieces(read, length)) {
    const view = viewOf(bytes);
    for (let at = 0; at + BASIC_BLOCK <= bytes.length; at += BASIC_BLOCK) {
      const block = (offset + at) / BASIC_BLOCK;
      const isHeader = view.getUint32(at) === HEADER_MAGIC;
      const cycle = view.getUint32(isHeader ? at + HEADER.cycle : at);
      current ??= cycle;
      if (cycle !== current) {
        if (head !== blocks || cycle !== current - 1)
          throw inconsistent('not cleanly unmounted: its log was not written to the end');
        head = block;
        current = cycle;
      }
      if (isHeader && head === blocks) before = block;
      else if (isHeader) behind = block;
    }
  }
  return { blocks, head, lastHeader: before ?? behind };
}

/**
 * @param read bytes of the log
 * @param length of the log, in bytes
 * @throws IMAGE_CORRUPT (`inconsistent`) unless the log is clean
 */
export async function checkLogIsClean(sb: XfsSuperblock, read: ReadBytes, length: number): Promise<void> {
  const dirty = inconsistent('not cleanly unmounted: its log has to be replayed first');
  const { blocks, head, lastHeader } = await scan(read, length);
  if (lastHeader === undefined) throw inconsistent('its log has no records');
  const header = await read(lastHeader * BASIC_BLOCK, BASIC_BLOCK);
  const view = viewOf(header);
  const recordLength = view.getUint32(HEADER.length);
  if (recordLength === 0 || recordLength > MAX_RECORD) throw dirty;
  const size = view.getUint32(HEADER.version) & VERSION_2 ? view.getUint32(HEADER.size) : 0;
  if (size > MAX_RECORD) throw dirty;
  const headerBlocks = Math.max(1, Math.ceil(size / BYTES_PER_HEADER));
  const end = (lastHeader + headerBlocks + Math.ceil(recordLength / BASIC_BLOCK)) % blocks;
  if (end !== head % blocks || view.getUint32(HEADER.operations) !== 1) throw dirty;
  if (
    view.getUint32(HEADER.lsn) !== view.getUint32(HEADER.cycle) ||
    view.getUint32(HEADER.lsn + 4) !== lastHeader
  )
    throw dirty;
  if (Buffer.compare(header.subarray(HEADER.uuid, HEADER.uuid + 16), sb.uuid) !== 0)
    throw inconsistent('its log belongs to another file system');
  const data = await read(((lastHeader + headerBlocks) % blocks) * BASIC_BLOCK, BASIC_BLOCK);
  if (((data[OPERATION_FLAGS_AT] ?? 0) & UNMOUNT) === 0) throw dirty;
}

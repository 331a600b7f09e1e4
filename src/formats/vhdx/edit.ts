/**
 * Opens an existing VHDX for writing.
 *
 * Invariant: nothing is written before the first change, and metadata only through the log. What can be read
 * but not safely changed is refused: blocks that share space, or lie where something else is.
 */
import { VhdkitError } from '../../base/errors.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { WriteAccess } from '../editable-image.js';
import type { Finding } from '../finding.js';
import { SpaceAllocator } from './allocator.js';
import { BAT_ENTRY_LENGTH, neededEntries } from './bat.js';
import { examineBlocks } from './check.js';
import { type VhdxDefect, vhdxCorrupt } from './defects.js';
import { EditSession } from './edit-session.js';
import { EditableVhdx } from './editable-vhdx.js';
import { HeaderWriter } from './header-writer.js';
import { readStructures, type VhdxStructures } from './open.js';

/** Space that two owners claim can't be written without harming one of them, whatever the blocks' states. */
const UNSAFE: ReadonlySet<string> = new Set<VhdxDefect>([
  'VHDX_BAT_ENTRY_OVERLAP',
  'VHDX_BAT_ENTRY_OUTSIDE_FILE',
  'VHDX_BAT_ENTRY_IN_METADATA',
  'VHDX_FILE_TOO_LONG',
]);

/**
 * Reads the whole BAT once.
 * @throws IMAGE_CORRUPT, UNSUPPORTED (a device, features that are not known), READ_ONLY, IO_FAILED
 */
export async function editVhdx(file: RandomAccessFile, access: WriteAccess): Promise<EditableVhdx> {
  assertEditableFile(file);
  const found = await readStructures(file);
  const isLogThere = found.log && found.log.offset + found.log.length <= file.size();
  // An empty log that the file does not have is none; the first change makes one.
  const structures = { ...found, log: isLogThere ? found.log : undefined };
  const { findings, space } = await examineBlocks(structures);
  refuseUnsafe(findings, structures);
  const allocator = new SpaceAllocator(file, space, highestPlace(structures));
  return new EditableVhdx(
    structures,
    allocator,
    (onReplayed) => new EditSession(structures, access, allocator, onReplayed),
  );
}

function assertEditableFile(file: RandomAccessFile): void {
  const { path } = file;
  if (!file.writable) {
    throw new VhdkitError('READ_ONLY', `${path} is open for reading only`, { context: { path } });
  }
  if (file.kind !== 'device') return;
  throw new VhdkitError('UNSUPPORTED', `${path}: a VHDX on a device can't be changed`, {
    operation: 'open image',
    context: { path },
    hint: 'Copy the image to a file.',
  });
}

function refuseUnsafe(findings: readonly Finding[], structures: VhdxStructures): void {
  const { file, header, headerOffset, regions, geometry, metadata } = structures;
  const hint = 'Convert the image to a new one, or restore it from a backup.';
  for (const { code, severity, message, offset = 0 } of findings) {
    if (severity !== 'error' && !UNSAFE.has(code)) continue;
    const text = `cannot be changed safely: ${message}; the table entry is`;
    throw vhdxCorrupt(code as VhdxDefect, text, file.path, offset, hint);
  }
  if (!new HeaderWriter(file, header, headerOffset).canUpdate) {
    const message = 'the header sequence number cannot grow any more';
    throw vhdxCorrupt('VHDX_HEADER_SEQUENCE_EXHAUSTED', message, file.path, headerOffset + 8, hint);
  }
  const needed = neededEntries(geometry, metadata.hasParent) * BAT_ENTRY_LENGTH;
  if (regions.bat.length >= needed) return;
  const message = `the block allocation table has ${regions.bat.length} bytes, but writing needs ${needed}`;
  throw vhdxCorrupt('VHDX_BAT_TOO_SMALL', message, file.path, regions.bat.offset, hint);
}

/** No structure and no block reaches farther than this. A last block may be longer than the file. */
function highestPlace(structures: VhdxStructures): number {
  const { file, overlay, geometry } = structures;
  return (overlay ?? file).size() + geometry.blockSize;
}

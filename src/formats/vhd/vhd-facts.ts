/**
 * What a VHD says of itself in its footer, whether it is open for reading or for writing.
 *
 * Invariant: nothing is read or written here. Not here: anything that differs between the two.
 */
import { guidFromBytes, NIL_GUID } from '../../base/guid.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageType } from '../disk-image.js';
import type { Finding } from '../finding.js';
import type { VhdStructures } from './structures.js';

/** Creator application as text, without padding; undefined when there is none. */
export function creatorName(application: string): string | undefined {
  const name = application.replace(/[^\x20-\x7e]/g, '').trim();
  return name === '' ? undefined : name;
}

export abstract class VhdFacts {
  readonly format = 'vhd';
  readonly type: ImageType;
  readonly file: RandomAccessFile;
  readonly logicalSectorSize = 512;
  readonly physicalSectorSize = 512;
  readonly id: string | undefined;
  readonly linkId: string | undefined;
  readonly creator: string | undefined;
  readonly log = 'none';
  readonly warnings: readonly Finding[];
  readonly unwrittenIsZero = false;

  constructor({ file, type, footer, warnings }: VhdStructures) {
    this.file = file;
    this.type = type;
    const id = guidFromBytes(footer.uniqueId);
    // An id of zeros names nothing: two such disks must never be taken for one.
    this.id = id === NIL_GUID ? undefined : id;
    this.linkId = this.id;
    this.creator = creatorName(footer.creatorApplication);
    this.warnings = warnings;
  }
}

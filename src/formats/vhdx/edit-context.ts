/**
 * What the larger changes of an image (size, parent, type) work on. Each runs alone: no other change of the image
 * is under way meanwhile.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { SpaceAllocator } from './allocator.js';
import type { BlockChanges } from './block-changes.js';
import type { DirtyPages } from './dirty-pages.js';
import type { LogUpdate } from './log-codec.js';
import type { MetadataPages } from './metadata-update.js';
import type { VhdxStructures } from './open.js';

export interface EditContext {
  readonly file: RandomAccessFile;
  readonly pages: DirtyPages;
  readonly space: SpaceAllocator;
  /** Of the size that is valid now. */
  readonly blocks: BlockChanges;
  readonly structures: VhdxStructures;
  /** What is now known of the file replaces what was. */
  adopt(change: Partial<VhdxStructures>): void;
  /**
   * Makes changed pages durable, together with more updates, and gives released space back. All or nothing.
   */
  write(more?: readonly LogUpdate[]): Promise<void>;
}

export function metadataPages(context: EditContext): MetadataPages {
  const { pages, structures, file } = context;
  return { pages, region: structures.regions.metadata, path: file.path };
}

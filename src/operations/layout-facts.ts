/**
 * What a layout's counts mean to people: fragmentation.
 */
import type { ImageLayout } from '../formats/disk-image.js';

/** Share of allocated blocks that do not follow their predecessor in the file, and the runs they form. */
export interface Fragmentation {
  /** 0 to 100, one decimal. */
  percent: number;
  extents: number;
}

export function fragmentation(layout: Pick<ImageLayout, 'allocatedBlocks' | 'extents'>): Fragmentation {
  const joints = layout.allocatedBlocks - 1;
  const percent = joints > 0 ? Math.round(((layout.extents - 1) / joints) * 1000) / 10 : 0;
  return { percent, extents: layout.extents };
}

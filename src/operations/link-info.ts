/**
 * A link of a chain as results tell it: where the parent is, whether it fits, and what is remarkable.
 *
 * Invariant: `status` says what was found at the place, `verdict` what that means for the chain; nothing
 * that merely hints at a change (another file time) makes a verdict worse.
 */
import type { ChainLink, LinkVerdict } from '../formats/chain.js';
import type { DiskImage } from '../formats/disk-image.js';
import type { LinkStatus, ParentTimes } from '../formats/resolve-parent.js';

export type { LinkVerdict } from '../formats/chain.js';

export interface ParentInfo {
  /** Where it was found, or what the child calls it. */
  path: string;
  /** The id the child expects. */
  id: string;
  /** Whether the file there is the parent. */
  status: LinkStatus;
  /** What the link is worth: `matches` and `moved` can be read through, the others can't. */
  verdict: LinkVerdict;
  /** The parent is not where the child's first locator says. */
  moved: boolean;
  /**
   * The parent was changed after the child was made: for certain where it does not match (VHDX); where it
   * does (VHD), its file only has another time than the child remembers, which copying does as well.
   */
  modified: boolean;
  /** What the child calls it, as stored. */
  storedPath: string | null;
  /** The id found instead of `id`. */
  foundId?: string;
  /** The times behind `modified` of a parent that matches, milliseconds since 1970. */
  times?: ParentTimes;
  /** Size of the parent's disk in bytes. What a smaller parent lacks reads as zeros. */
  virtualSize?: number;
  /** Why it does not fit or can't be read. */
  reason?: string;
}

function reasonOf({ verdict, resolution }: ChainLink): string | undefined {
  if (verdict === 'loop') return 'it is its own ancestor';
  if (verdict === 'too-deep') return 'more images depend on each other than are followed';
  if (resolution.status === 'mismatch') return resolution.reason;
  return resolution.status === 'unreadable' ? resolution.cause.message : undefined;
}

/** Describes the link of `child`. */
export function linkInfo(child: DiskImage, link: ChainLink): ParentInfo {
  const { verdict, resolution } = link;
  const { path, status } = resolution;
  const reason = reasonOf(link);
  const info: ParentInfo = {
    path,
    id: child.parentLink?.acceptedIds[0] ?? '',
    status,
    verdict,
    moved: status === 'matches' && resolution.moved,
    modified: verdict === 'modified' || (status === 'matches' && resolution.times !== undefined),
    storedPath: child.parentLink?.candidates[0]?.path ?? null,
  };
  if (status === 'mismatch') info.foundId = resolution.foundId;
  if (status === 'matches') info.virtualSize = resolution.image.virtualSize;
  if (status === 'matches' && resolution.times) info.times = resolution.times;
  if (reason !== undefined) info.reason = reason;
  return info;
}

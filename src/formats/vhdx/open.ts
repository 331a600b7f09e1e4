/**
 * Opening a VHDX for reading: an ordered list of steps, each of which may trust what the ones before it
 * verified.
 *
 * Invariant: not one byte of the file is changed, not even to replay its log; the log is replayed in
 * memory and everything behind the headers is read through that view. The table of blocks is not read
 * here: entries are checked when they are used.
 */
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { ImageType, ParentLink } from '../disk-image.js';
import type { Finding } from '../finding.js';
import { BAT_ENTRY_LENGTH, type BatGeometry, batGeometry, neededEntries } from './bat.js';
import { vhdxCorrupt, vhdxFinding } from './defects.js';
import {
  type CurrentHeader,
  type LogPlacement,
  logPlacement,
  readCurrentHeader,
  readIdentifier,
} from './header.js';
import { type LogOverlayFile, replayInMemory } from './log-overlay.js';
import { findActiveSequence, LogRing } from './log-scan.js';
import { readMetadata, type VhdxMetadata } from './metadata.js';
import { decodeParentLocator, parentLinkOf } from './parent-locator.js';
import { type OwnedRange, OwnedRanges, type Regions, readRegions } from './region-table.js';

/** Everything that opening found out. */
export interface VhdxStructures {
  file: RandomAccessFile;
  creator: string;
  header: CurrentHeader['header'];
  /** Byte offset of the header copy that is current. */
  headerOffset: number;
  log: OwnedRange | undefined;
  /** Present when the log held changes. */
  overlay: LogOverlayFile | undefined;
  regions: Regions;
  metadata: VhdxMetadata;
  geometry: BatGeometry;
  type: ImageType;
  parentLink: ParentLink | undefined;
  warnings: Finding[];
}

/** The log and all regions: where no block may be. */
export function occupiedRanges(structures: Pick<VhdxStructures, 'log' | 'regions'>): OwnedRanges {
  const { log, regions } = structures;
  return new OwnedRanges(log ? [log, ...regions.all] : regions.all);
}

/**
 * Reads and verifies all structures but the table of blocks.
 * @throws IMAGE_CORRUPT, UNSUPPORTED, IO_FAILED
 */
export async function readStructures(file: RandomAccessFile): Promise<VhdxStructures> {
  const creator = await readIdentifier(file);
  const current = await readCurrentHeader(file);
  const warnings = current.findings;
  const placement = logPlacement(current, file.size(), file.path);
  const overlay = await replayLog(file, current, placement, warnings);
  const log = placement && { name: 'the log', offset: placement.offset, length: placement.length };
  const view = overlay ?? file;
  const regions = await readRegions(view, log);
  const metadata = await readMetadata(view, regions.metadata);
  const geometry = batGeometry(metadata.virtualSize, metadata.blockSize, metadata.logicalSectorSize);
  checkBatLength(geometry, regions.bat, file.path);
  warnings.push(...regions.findings, ...metadata.findings);
  return {
    file,
    creator,
    header: current.header,
    headerOffset: current.offset,
    log,
    overlay,
    regions,
    metadata,
    geometry,
    type: typeOf(metadata),
    parentLink: readParentLink(metadata, file.path),
    warnings,
  };
}

async function replayLog(
  file: RandomAccessFile,
  current: CurrentHeader,
  placement: LogPlacement | undefined,
  warnings: Finding[],
): Promise<LogOverlayFile | undefined> {
  if (!placement?.inUse) return undefined;
  const ring = new LogRing(file, placement.offset, placement.length);
  const sequence = await findActiveSequence(ring, current.header.logGuid);
  const message = `the log holds changes not yet in place (${sequence.entries.length} entries); they are taken into account`;
  warnings.push(vhdxFinding('VHDX_LOG_DIRTY', 'warning', message, placement.offset));
  return replayInMemory(ring, sequence);
}

/** Only payload entries are demanded: some writers leave out the bitmap entry of a last chunk. */
function checkBatLength(geometry: BatGeometry, bat: OwnedRange, path: string): void {
  const needed = neededEntries(geometry, false) * BAT_ENTRY_LENGTH;
  if (bat.length >= needed) return;
  const message = `the block allocation table has ${bat.length} bytes, but the disk needs ${needed}`;
  throw vhdxCorrupt('VHDX_BAT_TOO_SMALL', message, path, bat.offset);
}

function typeOf(metadata: VhdxMetadata): ImageType {
  if (metadata.hasParent) return 'differencing';
  return metadata.leaveBlocksAllocated ? 'fixed' : 'dynamic';
}

function readParentLink(metadata: VhdxMetadata, path: string): ParentLink | undefined {
  const { hasParent, parentLocator } = metadata;
  if (!hasParent || !parentLocator) return undefined;
  const pairs = decodeParentLocator(parentLocator.bytes, parentLocator.offset, path);
  return parentLinkOf(pairs, parentLocator.offset, path);
}

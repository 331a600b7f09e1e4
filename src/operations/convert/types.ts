/**
 * What `convert` is told and what it answers. Types only.
 */
import type { Chain } from '../../formats/chain.js';
import type { FormatId, ImageType, SectorSize } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import type { BytesMoved, ProviderChoice, ZeroPolicy } from '../../offload/transfer-types.js';
import type { ProgressSink } from '../host.js';
import type { ProfileName } from '../profiles/rule.js';

/** Where a streamed target goes. */
export interface ByteSink {
  /** Resolves when the bytes are taken; the buffer may be used again then. */
  write(bytes: Uint8Array): Promise<void>;
}

/** A partition table rewritten for another sector size. Sizes in bytes. */
export interface Reblocked {
  table: 'GPT' | 'MBR';
  from: SectorSize;
  to: SectorSize;
  partitions: number;
}

export interface ConvertOptions {
  source: string;
  target: string;
  from?: FormatId;
  to?: FormatId;
  type?: 'dynamic' | 'fixed';
  /** Bytes. */
  blockSize?: number;
  /** Logical sector size of the target: recorded in a VHDX; of a raw target, what it will be read with. */
  sectorSize?: SectorSize;
  /** Sector size that a raw source was made for; otherwise found from where its GPT lies, else 512. */
  sourceSectorSize?: SectorSize;
  /** Rewrite the partition table when the sector size changes; without it such a disk is refused. */
  reblock?: boolean;
  /** The platform that the result is for: chooses what was not said and refuses what it would reject. */
  profile?: ProfileName;
  /** Read the result back before it is published, and compare it with the source. */
  verify?: boolean;
  /** Called when that begins; the answer is told how far it is. */
  onVerify?: () => Promise<ProgressSink>;
  provider?: ProviderChoice;
  zeros?: ZeroPolicy;
  /** Replace an existing file, or write to a device. */
  force?: boolean;
  /** Change nothing; the result's `bytes` is a forecast. */
  dryRun?: boolean;
  /** Bytes per second that may be read or copied at most. */
  rate?: number;
  /** Go on with what an interrupted run left, and keep what this one did if it fails. */
  resume?: boolean;
  /** What of the source is to be in the target: a chain over the same images that shows less. */
  shown?: (source: Chain) => Chain;
  /** Opens the source in another way than by its name. */
  openSource?: () => Promise<Chain>;
  /** Convert the source as it is at this moment, from extent-sharing clones of its files. */
  snapshotSource?: boolean;
  /** Milliseconds between checkpoints; for tests. */
  checkpointInterval?: number;
  /** The source as a stream; `source` is only its name then. */
  input?: AsyncIterable<Uint8Array>;
  /** Bytes that a raw `input` must have. */
  inputSize?: number;
  /** Folder for a stream that must be spooled; else beside the target, or where the system wants such files. */
  tempDir?: string;
  /** The target as a stream; `target` is only its name then. `to` must be given. */
  output?: ByteSink;
  /** Told what a person should know while it goes on. */
  notice?: (text: string) => void;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

/** What a dry run foresees besides bytes. */
export interface ConversionPlan {
  /** Bytes; null where the target has no blocks. */
  blockSize: number | null;
  /** Blocks that would be allocated. */
  blocks: number;
  totalBlocks: number;
  /** Payload would be searched for zeros: `bytes`, `blocks` and `fileSize` are upper bounds. */
  atMost: boolean;
}

export interface ConvertResult {
  source: string;
  target: string;
  from: FormatId;
  to: FormatId;
  type: ImageType;
  virtualSize: number;
  /** Bytes; in a dry run what it would be. */
  fileSize: number;
  bytes: BytesMoved;
  elapsedMs: number;
  dryRun: boolean;
  /** Of a dry run. */
  plan?: ConversionPlan;
  warnings: readonly Finding[];
  profile?: ProfileName;
  /** With `verify`: of the result's disk, and how it was read. */
  sha256?: string;
  verified?: { reader: 'vhd-lib' | 'vhdkit'; cacheDropped: boolean };
  /** Present when the partition table was rewritten for other sectors. */
  reblocked?: Reblocked;
  /** With `resume`: where this run took up the work (0: at the start), and why not further on. */
  resumed?: { position: number; reason?: string };
}

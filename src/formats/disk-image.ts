/**
 * The disk image contract: what every format implements.
 *
 * A disk image says where bytes are; it never copies them. `locate` answers with extents, `prepareWrite`
 * with places. Reading through a buffer is one generic adapter on top (formats/image-reader.ts).
 *
 * Invariants: `locate` covers the asked range exactly. Metadata names data only after that data is
 * durable: a new image (from a format's `create`) becomes valid with `flush`; until then it must not be
 * published. Opening for reading never writes, not even to replay a log.
 *
 * Not here: finding parents (chain.ts), recognising formats (registry.ts).
 */
import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';
import type { Extent, Locator, PreparedWrite } from '../block/extent.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { EditableImage, NewParentLink, WriteAccess } from './editable-image.js';
import type { Finding } from './finding.js';
import type { RepairAccess, StructureRepair } from './repair.js';

export type FormatId = 'raw' | 'vhd' | 'vhdx';
export type ImageType = 'fixed' | 'dynamic' | 'differencing';
export type SectorSize = 512 | 4096;

/** One place where a child says its parent is. */
export interface ParentCandidate {
  /** Which locator says so, for messages: `relative_path`, `W2ku`, `parent name`. */
  source: string;
  /** As stored, in the notation of the system that wrote it. */
  path: string;
}

/** What a differencing image knows of its parent. */
export interface ParentLink {
  /** Ids of which the parent's `linkId` must be one. */
  acceptedIds: readonly string[];
  /** In the order in which they are to be tried. */
  candidates: readonly ParentCandidate[];
  /**
   * The parent file's time of change when the link was made, milliseconds since 1970; undefined where it
   * is not stored (VHDX, and VHDs that say 0). Advisory: every copy and every time zone changes it.
   */
  parentModified?: number;
}

/** Facts for `info`, gathered in one pass over the block table. */
export interface ImageLayout {
  /** Blocks with payload in the file. */
  allocatedBlocks: number;
  totalBlocks: number;
  /** Largest power of two (at most 1 MiB) that divides every payload offset; undefined without payload. */
  payloadAlignment: number | undefined;
  /**
   * Runs of allocated blocks, taken in the order of the disk, that follow each other in the file; what a
   * format must put between two blocks (a VHD's bitmap with its padding) does not break a run.
   */
  extents: number;
}

export interface DiskImage extends Locator {
  readonly format: FormatId;
  readonly type: ImageType;
  readonly file: RandomAccessFile;
  readonly virtualSize: number;
  /** Allocation unit in bytes; undefined where there is none (raw, fixed VHD). */
  readonly blockSize: number | undefined;
  readonly logicalSectorSize: SectorSize;
  readonly physicalSectorSize: SectorSize;
  /** The disk's own id as text; undefined for raw. */
  readonly id: string | undefined;
  /** The id by which children recognise this image (VHD: unique id; VHDX: DataWriteGuid). */
  readonly linkId: string | undefined;
  readonly creator: string | undefined;
  /** Present exactly for differencing images. */
  readonly parentLink: ParentLink | undefined;
  readonly log: 'none' | 'clean' | 'dirty';
  /** What was odd when the image was opened, but not enough to refuse it. */
  readonly warnings: readonly Finding[];
  /** True when unwritten parts of a new image read as zeros without being written. */
  readonly unwrittenIsZero: boolean;
  locate(offset: number, length: number): Promise<Extent[]>;
  /**
   * Callers hold at most one prepared, uncommitted write per block and serialise calls to `prepareWrite`;
   * bytes may be moved for several prepared writes at once.
   * @throws READ_ONLY, OUT_OF_RANGE, TARGET_TOO_SMALL
   */
  prepareWrite(offset: number, length: number): Promise<PreparedWrite>;
  /** Makes everything committed durable: data first, then the metadata that names it. */
  flush(): Promise<void>;
  layout(): Promise<ImageLayout>;
  /** Examines the whole image. Returns findings; throws only when it cannot read (IO_FAILED) or is told to stop. */
  check(options?: CheckOptions): Promise<Finding[]>;
  /** Closes the image and its file. */
  close(): Promise<void>;
}

/** How long work on the tables is followed and stopped. */
export interface CheckOptions {
  signal?: AbortSignal;
  /** Parts done of `total`, in units of the format's own; cheap and called often. */
  onProgress?: (done: number, total: number) => void;
}

/** How a format opens an image. */
export interface OpenImageOptions {
  /** Accept defects that leave the contents readable in part (a truncated fixed disk). */
  tolerant?: boolean;
}

/** What a new image is to be. Sizes in bytes. */
export interface CreateImageOptions {
  type: ImageType;
  virtualSize: number;
  /** Exactly for differencing images. `diskId`: the parent's `id`, which a VHDX child shares. */
  parent?: NewParentLink & { diskId: string | undefined };
  /** The disk's own id (a GUID). Default: a random one, or for a VHDX child its parent's. */
  diskId?: string;
  blockSize?: number;
  logicalSectorSize?: SectorSize;
  physicalSectorSize?: SectorSize;
  /**
   * The file of the image that the new one will take the place of, with the same content: its id and time of
   * creation go over, so that children go on matching. VHD only; ignored elsewhere.
   */
  replaces?: RandomAccessFile;
  clock: Clock;
  random: RandomSource;
}

/** A format as the registry sees it. */
export interface FormatDriver {
  readonly format: FormatId;
  open(file: RandomAccessFile, options: OpenImageOptions): Promise<DiskImage>;
  /**
   * Opens an existing image for writing. Stricter than `open`: what can be read but not safely changed is
   * refused (a footer that is only there in one copy is restored with the first change, not refused).
   * @throws IMAGE_CORRUPT, UNSUPPORTED (saved state, features that writing would break), READ_ONLY (the
   *   file), IO_FAILED
   */
  edit(file: RandomAccessFile, access: WriteAccess): Promise<EditableImage>;
  /** Lays out a new image in an empty file (or a device, raw only). Complete after `flush`. */
  create(file: RandomAccessFile, options: CreateImageOptions): Promise<DiskImage>;
  /**
   * Takes up the building of an image after an interruption: `file` is as some `flush` of `create`'s image
   * left it, or later. Everything committed before that flush is there; space that was given out but is not
   * named by the tables is zero again. The options must be those of `create`.
   * @throws IMAGE_CORRUPT when the file can't be what an interrupted run left
   */
  resume(file: RandomAccessFile, options: CreateImageOptions): Promise<DiskImage>;
  /**
   * Puts right what is wrong with an existing image's structures; see repair.ts. Absent where there are none.
   * @throws IMAGE_CORRUPT, UNSUPPORTED (what leaves nothing to go on with), READ_ONLY, NO_SPACE, IO_FAILED
   */
  repair?(file: RandomAccessFile, access: RepairAccess): Promise<StructureRepair>;
}

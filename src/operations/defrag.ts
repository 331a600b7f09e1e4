/**
 * `defrag`: brings an image's blocks into the order of the disk, one behind the other, payload aligned.
 *
 * Invariants: what the disk shows is the same at every instant; a run that was interrupted leaves an image
 * that is less fragmented than before, or as much, and running again finishes. Rounds: copy into free space,
 * flush, tables, flush; only then what was left is free. Moving is no visible change: children stay valid.
 *
 * With `host`, the file itself is brought into one piece on the host afterwards, whatever the format.
 *
 * Not here: the order of moves (rearrange/order-plan.ts); giving back unused blocks (compact.ts).
 */
import { GiB, isPowerOfTwo } from '../base/bytes.js';
import { isVhdkitError, throwIfAborted, VhdkitError } from '../base/errors.js';
import type { FormatId, ImageLayout, ImageType } from '../formats/disk-image.js';
import type { EditableImage } from '../formats/editable-image.js';
import { isRelocatable, type RelocatableImage } from '../formats/relocatable-image.js';
import { countPhysicalExtents } from '../io/file-extents.js';
import type { SessionOptions } from '../offload/transfer-session.js';
import type { BytesMoved } from '../offload/transfer-types.js';
import { add, NOTHING_MOVED } from './bytes-moved.js';
import { assertHasHostLayout, type HostLayout, layOutAnew } from './defrag/host-layout.js';
import { openForEditing } from './editing.js';
import type { Host, ProgressSink } from './host.js';
import { type Fragmentation, fragmentation } from './layout-facts.js';
import { dropAnchors } from './rearrange/anchors.js';
import { carryOut, cutOff } from './rearrange/mover.js';
import { OrderPlan } from './rearrange/order-plan.js';
import { type Ground, UnitTable } from './rearrange/unit-table.js';
import { type MovingOptions, sessionFor } from './session.js';
import { assertSound } from './sound.js';

export interface DefragOptions extends MovingOptions {
  path: string;
  format?: FormatId;
  /** Alignment of payload in the file, bytes; the format's usual one if not given. */
  align?: number;
  /** Also lay the file out anew where the host's file system scattered it. */
  host?: boolean;
  /** Change nothing; say what would be moved. */
  dryRun?: boolean;
  progress?: ProgressSink;
  /** Called when the file is about to be laid out anew; the answer is told how far it is. */
  onHost?: () => Promise<ProgressSink>;
}

/** How an image lies in its file. Sizes in bytes. */
export interface Arrangement {
  fileSize: number;
  payloadAlignment: number | null;
  fragmentation: Fragmentation;
  /** Extents of the file on the host's file system; absent where it does not say. */
  hostExtents?: number;
}

export interface DefragResult {
  path: string;
  format: FormatId;
  type: ImageType;
  before: Arrangement;
  /** In a dry run what it would be as far as is known: fragmentation and alignment. */
  after: Arrangement;
  /** Units moved, and their bytes; one that had to make room first counts twice. */
  moved: { units: number; bytes: number };
  bytes: BytesMoved;
  /** With `host`, and not in a dry run: what became of the file on the host. */
  hostLayout?: HostLayout;
  elapsedMs: number;
  dryRun: boolean;
}

/** What a round may hold: bounds the space needed behind the image, and the wait for Ctrl-C. */
const LIMITS = { bytes: GiB, moves: 256 };

function arrangement(image: EditableImage, layout: ImageLayout): Arrangement {
  const hostExtents = countPhysicalExtents(image.file);
  return {
    fileSize: image.file.size(),
    payloadAlignment: layout.payloadAlignment ?? null,
    fragmentation: fragmentation(layout),
    ...(hostExtents === undefined ? {} : { hostExtents }),
  };
}

/** @throws UNSUPPORTED for an image whose payload has no order of its own */
export function assertRelocatable(image: EditableImage, operation: string): RelocatableImage {
  if (isRelocatable(image)) return image;
  const { path } = image.file;
  throw new VhdkitError(
    'UNSUPPORTED',
    `${path} has no blocks: its bytes are in the order of the disk already`,
    {
      operation,
      context: { path },
      hint: 'Only dynamic and differencing VHD and VHDX images (and fixed VHDX) have blocks to move.',
    },
  );
}

function alignmentOf(image: RelocatableImage, asked: number | undefined): number {
  const { smallest, usual } = image.payloadAlignment;
  if (asked === undefined) return usual;
  if (isPowerOfTwo(asked) && asked >= smallest && asked <= GiB) return asked;
  throw new VhdkitError('INVALID_ARGUMENT', `Payload can't be aligned to ${asked} bytes`, {
    operation: 'defragment',
    context: { path: image.file.path },
    hint: `Give a power of two from ${smallest} bytes to 1G.`,
  });
}

/** Sector bitmaps first, so that payload is one run; then payload in the order of the disk. */
async function orderedUnits(image: RelocatableImage): Promise<UnitTable> {
  const table = new UnitTable();
  for (const kind of ['bitmap', 'payload'] as const) {
    for await (const unit of image.units()) if (unit.kind === kind) table.add(unit);
  }
  return table;
}

interface Outcome {
  moved: { units: number; bytes: number };
  bytes: BytesMoved;
}

async function runRounds(
  image: RelocatableImage,
  units: UnitTable,
  plan: OrderPlan,
  options: DefragOptions,
  session: SessionOptions,
): Promise<Outcome> {
  const outcome: Outcome = { moved: { units: 0, bytes: 0 }, bytes: NOTHING_MOVED };
  const total = plan.bytesLeft();
  for (;;) {
    throwIfAborted(options.signal, 'defragment');
    const moves = plan.nextRound();
    if (moves.length === 0) return outcome;
    outcome.bytes = add(outcome.bytes, await carryOut(image, units, moves, session));
    await image.flush();
    for (const { row } of moves) outcome.moved.bytes += units.length(row);
    outcome.moved.units += moves.length;
    // What had to make room first is work on top.
    options.progress?.update(total - plan.bytesLeft(), total);
  }
}

interface Rearranged extends Outcome {
  after: Arrangement;
}

async function rearrange(
  host: Host,
  image: RelocatableImage,
  before: Arrangement,
  options: DefragOptions,
): Promise<Rearranged> {
  const session = sessionFor(host, options);
  const alignment = alignmentOf(image, options.align);
  await assertSound(image);
  const hadAnchors = !options.dryRun && (await dropAnchors(image)) > 0;
  const units = await orderedUnits(image);
  const ground: Ground = {
    immovable: image.immovable(),
    placeFrom: (offset) => image.placeFrom(offset, alignment),
  };
  const plan = new OrderPlan(units, ground, LIMITS);
  if (options.dryRun) {
    const fragmentation = { percent: 0, extents: units.count > 0 ? 1 : 0 };
    return {
      moved: { units: plan.left, bytes: plan.bytesLeft() },
      bytes: NOTHING_MOVED,
      after: { ...before, fragmentation, payloadAlignment: before.payloadAlignment && alignment },
    };
  }
  const outcome = await runRounds(image, units, plan, options, session);
  // Also empties what the format keeps of changes: the file may be copied next.
  await (hadAnchors || outcome.moved.units > 0 ? image.trim() : cutOff(image, units));
  return { ...outcome, after: arrangement(image, await image.layout()) };
}

/** Where it is not possible, the blocks are in order all the same: that is said, and no failure. */
async function tryToLayOutAnew(
  host: Host,
  image: EditableImage,
  options: DefragOptions,
): Promise<HostLayout> {
  const { signal, rate } = options;
  const progress = await options.onHost?.();
  try {
    return await layOutAnew(host, image.file, {
      ...(signal ? { signal } : {}),
      ...(rate === undefined ? {} : { rate }),
      ...(progress ? { progress } : {}),
    });
  } catch (error) {
    if (!isVhdkitError(error) || (error.code !== 'NO_SPACE' && error.code !== 'UNSUPPORTED')) throw error;
    const extents = countPhysicalExtents(image.file) ?? 0;
    return { replaced: false, reason: error.message, extents, bytes: NOTHING_MOVED };
  }
}

/**
 * @throws IN_USE, UNSUPPORTED (no blocks; with `host` a device), INVALID_ARGUMENT, IMAGE_CORRUPT, NO_SPACE,
 *   CANCELLED, IO_FAILED
 */
export async function defrag(host: Host, options: DefragOptions): Promise<DefragResult> {
  const started = host.clock.now();
  const editing = await openForEditing(host, options.path, options.format ? { format: options.format } : {});
  const { image } = editing;
  try {
    if (options.host) assertHasHostLayout(image.file);
    const before = arrangement(image, await image.layout());
    const rearranged =
      options.host && !isRelocatable(image)
        ? { moved: { units: 0, bytes: 0 }, bytes: NOTHING_MOVED, after: before }
        : await rearrange(host, assertRelocatable(image, 'defragment'), before, options);
    const hostLayout =
      options.host && !options.dryRun ? await tryToLayOutAnew(host, image, options) : undefined;
    return {
      path: options.path,
      format: image.format,
      type: image.type,
      before,
      ...rearranged,
      ...(hostLayout ? { after: { ...rearranged.after, hostExtents: hostLayout.extents }, hostLayout } : {}),
      elapsedMs: host.clock.now() - started,
      dryRun: options.dryRun ?? false,
    };
  } finally {
    await editing.close();
  }
}

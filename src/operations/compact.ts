/**
 * `compact`: gives back the storage of blocks that nobody needs, and makes the file as short as that allows.
 *
 * Invariants: what file systems use is the same before and after, and so is every byte outside of file
 * systems; at every instant the image shows what it showed (zeros or the parent's bytes may take the place
 * of free space). An interrupted run can be repeated. An image that others depend on is refused when free
 * space is to be given back: that changes what it shows.
 *
 * Not here: which ranges are free (guestfs/), which blocks can go (compact/decide.ts), into which gaps the
 * rest moves (rearrange/fill-plan.ts).
 */
import { dirname } from 'node:path';
import { Chain } from '../formats/chain.js';
import type { EditableImage } from '../formats/editable-image.js';
import { isRelocatable } from '../formats/relocatable-image.js';
import type { DiskFreeSpace } from '../guestfs/free-space-map.js';
import { NOTHING_MOVED } from './bytes-moved.js';
import { assertNoChildren, findChildren } from './children.js';
import { freeSpaceOf, storageOf } from './compact/facts.js';
import { Forecast } from './compact/foresee.js';
import { type GiveBackOptions, type GivenBack, giveBack, survey } from './compact/give-back.js';
import { compactInto } from './compact/into-new-image.js';
import { type MovedDown, moveDown } from './compact/move-down.js';
import type { CompactOptions, CompactResult, StorageFacts } from './compact/types.js';
import { type EditableChain, openEditableChain } from './editable-chain.js';
import type { Host } from './host.js';
import { sessionFor } from './session.js';
import { assertSound } from './sound.js';

export type { CompactOptions, CompactResult } from './compact/types.js';

/**
 * @throws IN_USE (held elsewhere, or the parent of others), IMAGE_CORRUPT, UNSUPPORTED, NO_SPACE, CANCELLED,
 *   IO_FAILED and what opening a chain throws
 */
export async function compact(host: Host, options: CompactOptions): Promise<CompactResult> {
  if (options.to !== undefined) return compactInto(host, options, options.to);
  const started = host.clock.now();
  const opened = await openEditableChain(
    host,
    options.path,
    options.format ? { format: options.format } : {},
  );
  try {
    const { top } = opened;
    await assertSound(top);
    if (options.freeSpace && !options.force) {
      const children = await findChildren(host, top, [dirname(options.path)]);
      assertNoChildren(top, children, 'Merge the children first, or use --force if they are not needed.');
    }
    const done = await run(host, opened, options);
    return {
      path: options.path,
      format: top.format,
      type: top.type,
      virtualSize: top.virtualSize,
      ...done,
      elapsedMs: host.clock.now() - started,
      dryRun: options.dryRun ?? false,
    };
  } finally {
    await opened.close();
  }
}

type Done = Pick<CompactResult, 'before' | 'after' | 'reclaimed' | 'volumes' | 'moved' | 'bytes'>;

async function run(host: Host, { top, chain }: EditableChain, options: CompactOptions): Promise<Done> {
  const before = await storageOf(top);
  const map = options.freeSpace ? await freeSpaceOf(chain) : undefined;
  const work = options.dryRun ? foreseen : carriedOut;
  const { given, after, moved, bytes } = await work(
    host,
    top,
    before,
    options,
    whatToGive(chain, map, options),
  );
  const lost = before.fileSize - after.fileSize;
  return {
    before,
    after,
    reclaimed: {
      zeros: given.zeros,
      freeSpace: given.freeSpace,
      insideBlocks: given.insideBlocks,
      slack: isRelocatable(top) ? Math.max(0, lost - given.zeros - given.freeSpace) : 0,
    },
    ...(map ? { volumes: map.reports } : {}),
    moved,
    bytes,
  };
}

function whatToGive(chain: Chain, map: DiskFreeSpace | undefined, options: CompactOptions): GiveBackOptions {
  const { progress, signal } = options;
  const parents = chain.images.slice(1);
  return {
    zeros: options.zeroBlocks ?? !options.freeSpace,
    ...(map ? { free: map.ranges() } : {}),
    ...(parents.length > 0 ? { below: new Chain(parents) } : {}),
    ...(signal ? { signal } : {}),
    ...(progress ? { onProgress: (done: number) => progress.update(done, chain.virtualSize) } : {}),
  };
}

type Work = Pick<CompactResult, 'after' | 'moved' | 'bytes'> & { given: GivenBack };

async function carriedOut(
  host: Host,
  top: EditableImage,
  _before: StorageFacts,
  options: CompactOptions,
  what: GiveBackOptions,
): Promise<Work> {
  const given = await giveBack(top, what);
  const moved = await shorten(host, top, options);
  return {
    given,
    moved: { units: moved?.units ?? 0, bytes: moved?.length ?? 0 },
    bytes: moved?.bytes ?? NOTHING_MOVED,
    after: await storageOf(top),
  };
}

async function foreseen(
  _host: Host,
  top: EditableImage,
  before: StorageFacts,
  _options: CompactOptions,
  what: GiveBackOptions,
): Promise<Work> {
  const forecast = new Forecast(top);
  const given = await survey(top, what, (decision) => forecast.note(decision));
  return { given, ...(await forecast.foresee(before)), bytes: NOTHING_MOVED };
}

/** Images without blocks have nothing to move: their storage is given back where it lies. */
async function shorten(
  host: Host,
  image: EditableImage,
  options: CompactOptions,
): Promise<MovedDown | undefined> {
  if (!isRelocatable(image)) return undefined;
  const { signal, onMove } = options;
  const progress = await onMove?.();
  return moveDown(image, {
    session: sessionFor(host, options),
    ...(signal ? { signal } : {}),
    ...(progress ? { progress } : {}),
  });
}

/**
 * Rebase with the content kept: what the new parent does not show is pulled into the child first.
 *
 * Invariants: the child shows the same at every instant. Pulled ranges are what the old chain shows there
 * anyway, so they change nothing; the link is changed in one step after they are durable, and only when
 * none of the images that were compared has changed meanwhile. Stopped anywhere, the work can simply be
 * done again: what was pulled is not looked at twice. An image that does not change what it shows keeps the
 * id by which its own children know it.
 *
 * Not here: a parent that is lost (relink.ts); images without one (convert).
 */
import { MiB } from '../../base/bytes.js';
import { isVhdkitError, throwIfAborted, VhdkitError } from '../../base/errors.js';
import { type DataExtent, type Extent, LOCATE_WINDOW, pushExtent } from '../../block/extent.js';
import { Chain, openChain } from '../../formats/chain.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { sameFile } from '../../io/file-system.js';
import type { FileFingerprint } from '../../io/random-access-file.js';
import { type SessionOptions, transfer } from '../../offload/transfer-session.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import { NOTHING_MOVED } from '../bytes-moved.js';
import { assertNotHeld, type EditableChain, openEditableChain } from '../editable-chain.js';
import type { Host } from '../host.js';
import { parentLinkTo } from '../parent-link.js';
import { sessionFor } from '../session.js';
import { assertDifferencing, assertFits, assertNoLoop, placeOf, remarks } from './candidate.js';
import { Differences } from './differences.js';
import type { RebaseOptions, RebaseResult } from './types.js';

/** What is compared between two reports of progress. */
const STEP = 16 * MiB;
/** What is pulled at once, whichever is reached first; comparing waits meanwhile. */
const BATCH_BYTES = 256 * MiB;
const BATCH_EXTENTS = 4096;

type Options = RebaseOptions & { parent: string };

/** Throws as `rebase` does. */
export async function keepContent(host: Host, options: Options): Promise<RebaseResult> {
  const started = host.clock.now();
  const { path, parent, dryRun = false } = options;
  const opened = await openChild(host, options);
  try {
    const { top: child, chain } = opened;
    const target = await openChain(host.fileSystem, parent);
    try {
      assertFits(child, target.top);
      await assertNoLoop(host.fileSystem, child, target);
      await assertNotHeld(host.fileSystem, target.images);
      const previous = chain.images[1] as DiskImage;
      const watch = new Watch([...chain.images.slice(1), ...target.images]);
      const pull = new Pull(host, opened, target, options);
      const linkChanged = !(await isSame(host, previous, target.top));
      await pull.run();
      if (!dryRun) {
        await child.flush();
        watch.assertUnchanged();
        throwIfAborted(options.signal, 'rebase');
        await child.setParent(parentLinkTo(await placeOf(host.fileSystem, child), target.top));
      }
      return {
        path,
        format: child.format,
        parent,
        previousParent: previous.file.path,
        relink: false,
        linkChanged,
        idMatched: true,
        compared: pull.compared,
        pulled: pull.pulled,
        bytes: pull.bytes,
        warnings: remarks(child, target.top),
        elapsedMs: host.clock.now() - started,
        dryRun,
      };
    } finally {
      await target.close();
    }
  } finally {
    await opened.close();
  }
}

/** Opens the child so that it keeps its link id: it goes on showing what it shows. */
async function openChild(host: Host, { path, format }: Options): Promise<EditableChain> {
  const chain = await openChain(host.fileSystem, path, {
    withoutParent: true,
    ...(format ? { format } : {}),
  });
  const { linkId } = chain.top;
  try {
    assertDifferencing(chain.top);
  } finally {
    await chain.close();
  }
  try {
    const options = {
      ...(format ? { format } : {}),
      ...(linkId === undefined ? {} : { nextLinkId: linkId }),
    };
    const opened = await openEditableChain(host, path, options);
    if (opened.top.linkId === linkId) return opened;
    await opened.close();
  } catch (error) {
    throw withRelinkHint(error, path);
  }
  throw new VhdkitError('SOURCE_CHANGED', `${path} was changed while it was being opened`, {
    operation: 'rebase',
    context: { path },
    hint: 'Close whatever else writes to it, then try again.',
  });
}

/** Without the old parent the content can't be kept: says what can be done. */
function withRelinkHint(error: unknown, path: string): unknown {
  if (!isVhdkitError(error) || (error.code !== 'PARENT_MISSING' && error.code !== 'PARENT_MISMATCH'))
    return error;
  const { code, message, context, operation = 'rebase' } = error;
  const why = 'so its content can not be kept';
  return new VhdkitError(code, `${message}, ${why}`, {
    operation,
    context: { ...context, child: path },
    cause: error,
    hint: 'If the parent was only moved or renamed: `vhdkit rebase CHILD --relink --parent PARENT`.',
  });
}

/** Says that nothing is lost when there was no room for all, or somebody did not want to wait. */
function withAgainHint(error: unknown): unknown {
  if (!isVhdkitError(error) || (error.code !== 'NO_SPACE' && error.code !== 'CANCELLED')) return error;
  const { code, message, context, cause, operation = 'rebase' } = error;
  const first = code === 'NO_SPACE' ? 'Free some space, then run' : 'Run';
  const hint = `${first} the same command again: it goes on. The child has its old parent and shows what it did.`;
  return new VhdkitError(code, message, { operation, context, cause: cause ?? error, hint });
}

async function isSame({ fileSystem }: Host, a: DiskImage, b: DiskImage): Promise<boolean> {
  const one = await fileSystem.identity(a.file.path);
  const other = await fileSystem.identity(b.file.path);
  return one !== undefined && other !== undefined && sameFile(one, other);
}

/** Notices when images change that must not. */
class Watch {
  readonly #then: readonly { image: DiskImage; fingerprint: FileFingerprint | undefined }[];

  constructor(images: readonly DiskImage[]) {
    this.#then = images.map((image) => ({ image, fingerprint: image.file.fingerprint() }));
  }

  /** @throws SOURCE_CHANGED */
  assertUnchanged(): void {
    for (const { image, fingerprint } of this.#then) {
      const now = image.file.fingerprint();
      if (!fingerprint || !now) continue;
      const isSameContent =
        now.size === fingerprint.size && now.mtime === fingerprint.mtime && now.ctime === fingerprint.ctime;
      if (isSameContent) continue;
      const { path } = image.file;
      throw new VhdkitError('SOURCE_CHANGED', `${path} was changed while it was compared`, {
        operation: 'rebase',
        context: { path },
        hint: 'The child still has its old parent. Stop whatever writes to the parent, then try again.',
      });
    }
  }
}

/** Walks over what the child does not hold, and pulls what the parents do not agree about. */
class Pull {
  readonly #child: EditableImage;
  readonly #options: Options;
  readonly #differences: Differences;
  readonly #session: SessionOptions;
  #batch: Extent[] = [];
  #batchBytes = 0;
  pulled = 0;
  bytes: BytesMoved = NOTHING_MOVED;

  constructor(host: Host, { top, chain }: EditableChain, target: Chain, options: Options) {
    const { signal } = options;
    this.#child = top;
    this.#options = options;
    const beneath = new Chain(chain.images.slice(1));
    this.#differences = new Differences(beneath, target, host.fileSystem, signal);
    this.#session = sessionFor(host, signal ? { signal } : {});
  }

  get compared(): number {
    return this.#differences.compared;
  }

  async run(): Promise<void> {
    const { virtualSize } = this.#child;
    const { signal, progress, dryRun } = this.#options;
    try {
      for (let at = 0; at < virtualSize; at += LOCATE_WINDOW) {
        const length = Math.min(LOCATE_WINDOW, virtualSize - at);
        for (const extent of await this.#child.locate(at, length)) {
          throwIfAborted(signal, 'rebase');
          if (extent.state === 'absent') await this.#consider(extent.offset, extent.length);
          else progress?.update(extent.offset + extent.length, virtualSize);
        }
        if (this.#batchBytes >= BATCH_BYTES || this.#batch.length >= BATCH_EXTENTS) await this.#carry();
      }
      await this.#carry();
    } catch (error) {
      // What was pulled need not be pulled again.
      if (this.bytes !== NOTHING_MOVED) await this.#child.flush().catch(() => undefined);
      throw dryRun ? error : withAgainHint(error);
    }
  }

  async #consider(offset: number, length: number): Promise<void> {
    const { dryRun, progress } = this.#options;
    for (let done = 0; done < length; done += STEP) {
      const count = Math.min(STEP, length - done);
      for (const extent of await this.#differences.within(offset + done, count)) {
        this.pulled += extent.length;
        if (dryRun) continue;
        pushExtent(this.#batch, extent);
        this.#batchBytes += extent.length;
      }
      progress?.update(offset + done + count, this.#child.virtualSize);
    }
  }

  /** Puts the batch into the child. */
  async #carry(): Promise<void> {
    const child = this.#child;
    const batch = this.#batch;
    this.#batch = [];
    this.#batchBytes = 0;
    if (batch.length === 0) return;
    const data = batch.filter((extent): extent is DataExtent => extent.state === 'data');
    const target = {
      file: child.file,
      unwrittenIsZero: false,
      blockSize: child.blockSize,
      prepareWrite: (offset: number, length: number) => child.prepareWrite(offset, length),
    };
    const moved = await transfer(each(data), target, this.#session);
    let zeroed = 0;
    for (const extent of batch) {
      if (extent.state === 'data') continue;
      throwIfAborted(this.#options.signal, 'rebase');
      await child.zero(extent.offset, extent.length);
      zeroed += extent.length;
    }
    const { shared, kernelCopied, buffered } = this.bytes;
    this.bytes = {
      shared: shared + moved.shared,
      kernelCopied: kernelCopied + moved.kernelCopied,
      buffered: buffered + moved.buffered,
      zeroed: this.bytes.zeroed + moved.zeroed + zeroed,
    };
  }
}

async function* each(extents: readonly Extent[]): AsyncGenerator<Extent> {
  yield* extents;
}

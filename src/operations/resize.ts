/**
 * `resize`: another size for the virtual disk of an existing image.
 *
 * Invariants: everything that could forbid it is looked at before the first change, under the image's lock;
 * a dry run takes the same decisions and writes nothing. An image that others depend on is left alone unless
 * told otherwise.
 */
import { throwIfAborted, VhdkitError } from '../base/errors.js';
import type { Chain } from '../formats/chain.js';
import type { EditableImage } from '../formats/editable-image.js';
import { isRelocatable } from '../formats/relocatable-image.js';
import { assertNoChildren, findChildren } from './children.js';
import { moveDown } from './compact/move-down.js';
import { openEditableChain } from './editable-chain.js';
import type { Host } from './host.js';
import { applyResize } from './resize/apply.js';
import { planResize, type ResizePlan } from './resize/plan.js';
import type { ResizeOptions, ResizeResult } from './resize/types.js';
import { sessionFor } from './session.js';
import { assertSound } from './sound.js';

export type { Loss, ResizeOptions, ResizeResult, SizeChange } from './resize/types.js';

async function assertFile(host: Host, path: string): Promise<void> {
  if ((await host.fileSystem.kind(path)) !== 'device') return;
  throw new VhdkitError('UNSUPPORTED', `${path} is a block device: its size is that of its storage`, {
    operation: 'resize',
    context: { path },
    hint: 'Resize the volume with the tools of its storage (lvresize), then the table in the guest.',
  });
}

function resultOf(chain: Chain, plan: ResizePlan, dryRun: boolean): ResizeResult {
  const { top } = chain;
  return {
    path: top.file.path,
    format: top.format,
    type: top.type,
    oldSize: plan.oldSize,
    virtualSize: plan.newSize,
    fileSize: top.file.size(),
    table: plan.layout.table,
    gptBackup: plan.gptBackup,
    lost: plan.lost,
    dryRun,
    elapsedMs: 0,
    warnings: [...top.warnings, ...plan.warnings],
  };
}

/** A smaller disk needs less of its file: what is left moves into the gaps, and the end is cut off. */
async function shorten(host: Host, image: EditableImage, options: ResizeOptions): Promise<void> {
  if (!isRelocatable(image)) return;
  const { signal, progress } = options;
  const stop = signal ? { signal } : {};
  const session = sessionFor(host, stop);
  await moveDown(image, { session, ...stop, ...(progress ? { progress } : {}) });
}

/**
 * @throws INVALID_ARGUMENT, UNSUPPORTED (something would be lost, saved state, a device), IN_USE (held by
 *   another process, or parent of others), PARENT_MISSING, PARENT_MISMATCH, TARGET_TOO_SMALL, NO_SPACE,
 *   IMAGE_CORRUPT, CANCELLED, IO_FAILED
 */
export async function resize(host: Host, options: ResizeOptions): Promise<ResizeResult> {
  const started = host.clock.now();
  const { path, format, force, dryRun = false } = options;
  await assertFile(host, path);
  const { top, chain, close } = await openEditableChain(host, path, format ? { format } : {});
  try {
    await assertSound(top);
    if (!force) {
      const hint = 'Resize a copy, or use --force if the children are given up.';
      assertNoChildren(top, await findChildren(host, top), hint);
    }
    const plan = await planResize(chain, options);
    const result = resultOf(chain, plan, dryRun);
    if (!dryRun) {
      throwIfAborted(options.signal, 'resize');
      await applyResize(top, chain.images.slice(1), plan);
      if (plan.newSize < plan.oldSize) await shorten(host, top, options);
    }
    return { ...result, fileSize: top.file.size(), elapsedMs: host.clock.now() - started };
  } finally {
    await close();
  }
}

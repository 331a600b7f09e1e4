/**
 * `resize`: another size for the virtual disk of an existing image.
 *
 * Invariants: everything that could forbid it is looked at before the first change, under the image's lock;
 * a dry run takes the same decisions and opens for reading only. An image that others depend on is left
 * alone unless told otherwise.
 */
import { throwIfAborted, VhdkitError } from '../base/errors.js';
import { type Chain, openChain } from '../formats/chain.js';
import { assertNoChildren, findChildren } from './children.js';
import { type Editing, openForEditing } from './editing.js';
import type { Host } from './host.js';
import { applyResize } from './resize/apply.js';
import { planResize, type ResizePlan } from './resize/plan.js';
import type { ResizeOptions, ResizeResult } from './resize/types.js';

export type { Loss, ResizeOptions, ResizeResult, SizeChange } from './resize/types.js';

async function assertFile(host: Host, path: string): Promise<void> {
  if ((await host.fileSystem.kind(path)) !== 'device') return;
  throw new VhdkitError('UNSUPPORTED', `${path} is a block device: its size is that of its storage`, {
    operation: 'resize',
    context: { path },
    hint: 'Resize the volume with the tools of its storage (lvresize), then the table in the guest.',
  });
}

/** @throws IN_USE when another process holds the image */
async function assertFree(host: Host, path: string): Promise<void> {
  const holder = await host.fileSystem.holder(path);
  if (!holder) return;
  throw new VhdkitError('IN_USE', `${path} is in use by process ${holder.pid} on ${holder.host}`, {
    operation: 'resize',
    context: { path, ...holder },
    hint: 'Wait for it to end.',
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

/**
 * @throws INVALID_ARGUMENT, UNSUPPORTED (something would be lost, saved state, a device), IN_USE (held by
 *   another process, or parent of others), PARENT_MISSING, PARENT_MISMATCH, TARGET_TOO_SMALL, NO_SPACE,
 *   IMAGE_CORRUPT, CANCELLED, IO_FAILED
 */
export async function resize(host: Host, options: ResizeOptions): Promise<ResizeResult> {
  const started = host.clock.now();
  const { path, format, force, dryRun = false } = options;
  await assertFile(host, path);
  const editOptions = format ? { format } : {};
  let editing: Editing | undefined;
  if (dryRun) await assertFree(host, path);
  else editing = await openForEditing(host, path, editOptions);
  try {
    const chain = await openChain(host.fileSystem, path, editOptions);
    try {
      if (!force) {
        const hint = 'Resize a copy, or use --force if the children are given up.';
        assertNoChildren(chain.top, await findChildren(host, chain.top), hint);
      }
      const plan = await planResize(chain, options);
      const result = resultOf(chain, plan, dryRun);
      if (editing) {
        throwIfAborted(options.signal, 'resize');
        await applyResize(editing.image, chain.images.slice(1), plan);
        result.fileSize = editing.image.file.size();
      }
      return { ...result, elapsedMs: host.clock.now() - started };
    } finally {
      await chain.close();
    }
  } finally {
    await editing?.close();
  }
}

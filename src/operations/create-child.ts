/**
 * `create --type differencing`: a new image that shows its parent until it is written to.
 *
 * Invariant: a child appears only over a parent that is itself readable down to the base, that nobody is
 * seen to write, and that did not change while the child was made. The parent is read and nothing else.
 */
import { VhdkitError } from '../base/errors.js';
import { type Chain, MAX_CHAIN_DEPTH } from '../formats/chain.js';
import type { DiskImage, FormatId } from '../formats/disk-image.js';
import type { Finding } from '../formats/finding.js';
import { createImage, formatByExtension } from '../formats/registry.js';
import { holderText, sameFile } from '../io/file-system.js';
import type { CreateOptions, CreateResult } from './create.js';
import type { Host } from './host.js';
import { parentLinkTo } from './parent-link.js';
import { openTarget } from './target.js';
import { openWholeChain } from './whole-chain.js';

const OPERATION = 'create differencing image';

function refuse(message: string, hint: string, path: string): VhdkitError {
  return new VhdkitError('INVALID_ARGUMENT', message, { operation: OPERATION, context: { path }, hint });
}

/** The child's format: as asked or named; else the parent's. Both must be the same. */
function childFormat(options: CreateOptions, parent: DiskImage): FormatId {
  const { path } = options;
  const format = options.format ?? formatByExtension(path) ?? parent.format;
  if (parent.format === 'raw') {
    throw new VhdkitError('UNSUPPORTED', `${parent.file.path} is a raw image, which can't be a parent`, {
      operation: OPERATION,
      context: { path: parent.file.path },
      hint: 'A raw image has no id by which a child could recognise it: convert it to VHD or VHDX first, then make the child over that.',
    });
  }
  if (format === parent.format) return format;
  const name = parent.format.toUpperCase();
  const message = `${path} would be a ${format.toUpperCase()} over a ${name}: child and parent have the same format`;
  throw refuse(message, `Give it the extension .${parent.format}, or say -O ${parent.format}.`, path);
}

function childSize(options: CreateOptions, parent: DiskImage): number {
  const { path, size = parent.virtualSize } = options;
  if (!Number.isSafeInteger(size) || size <= 0) {
    throw refuse(`A disk can't have ${size} bytes`, 'Leave the size out: it is that of the parent.', path);
  }
  if (size >= parent.virtualSize) return size;
  const message = `A child of ${size} bytes would cut off its parent, which has ${parent.virtualSize}`;
  throw refuse(message, 'Leave the size out, or choose a larger one.', path);
}

/** Sectors are the parent's: the whole chain is one disk. */
function assertSectors(options: CreateOptions, parent: DiskImage): void {
  const { logicalSectorSize: logical, physicalSectorSize: physical } = options;
  const wrong =
    logical !== undefined && logical !== parent.logicalSectorSize
      ? `--sector-size ${logical}`
      : physical !== undefined && physical !== parent.physicalSectorSize
        ? `--physical-sector-size ${physical}`
        : undefined;
  if (wrong === undefined) return;
  const sizes = `${parent.logicalSectorSize} (logical) and ${parent.physicalSectorSize} (physical)`;
  throw refuse(
    `${wrong} does not fit: the parent's sectors have ${sizes} bytes`,
    'Leave it out: a child has the sectors of its parent.',
    options.path,
  );
}

/** @throws INVALID_ARGUMENT when the child would replace one of the images beneath it */
async function assertOutsideChain(host: Host, path: string, chain: Chain): Promise<void> {
  const target = await host.fileSystem.identity(path);
  if (!target) return;
  for (const { file } of chain.images) {
    const identity = await host.fileSystem.identity(file.path);
    if (!identity || !sameFile(identity, target)) continue;
    const message =
      file === chain.top.file
        ? `${path} can't be its own parent`
        : `${path} is an ancestor of ${chain.top.file.path}`;
    throw refuse(message, 'Choose another name for the child.', path);
  }
}

/** @throws IN_USE while somebody writes the parent */
async function assertQuiet(host: Host, path: string): Promise<void> {
  const holder = await host.fileSystem.holder(path);
  if (!holder) return;
  throw new VhdkitError('IN_USE', `${path} is being written by ${holderText(holder)}`, {
    operation: OPERATION,
    context: { path, pid: holder.pid, host: holder.host },
    hint: 'A parent must not change any more. Stop what writes to it, then make the child.',
  });
}

const WINDOWS_NAME = { vhd: /\.a?vhd$/i, vhdx: /\.a?vhdx$/i } as const;

/** What the user should know of the new link. */
function remarks(path: string, parent: DiskImage): Finding[] {
  const found: Finding[] = [];
  const add = (severity: 'warning' | 'note', code: string, message: string): void => {
    found.push({ code, severity, message, repairable: false });
  };
  const pattern = WINDOWS_NAME[parent.format === 'vhd' ? 'vhd' : 'vhdx'];
  const names = `.${parent.format} and .a${parent.format}`;
  const parentPath = parent.file.path;
  for (const name of [path, parentPath]) {
    if (pattern.test(name)) continue;
    add('warning', 'CHAIN_NAME_WINDOWS', `Windows only opens names that end in ${names}, not ${name}`);
  }
  if (pattern.test(parentPath) && /\.avhdx?$/i.test(parentPath)) {
    const plain = parentPath.replace(/\.avhd(x?)$/i, '.vhd$1');
    const message = `New-VHD of Windows makes no children of ${parentPath} until it is renamed, to ${plain} for example`;
    add('note', 'CHAIN_PARENT_NAME_WINDOWS', message);
  }
  if (parent.log === 'dirty') {
    const message = `${parentPath} has changes in its log: programs that do not replay logs in memory will not open this chain`;
    add('warning', 'CHAIN_PARENT_LOG_DIRTY', message);
  }
  return found;
}

/** Lays out the child over an open chain and publishes it. */
async function build(host: Host, options: CreateOptions, chain: Chain): Promise<CreateResult> {
  const { path, blockSize, force = false } = options;
  const parent = chain.top;
  const format = childFormat(options, parent);
  const virtualSize = childSize(options, parent);
  assertSectors(options, parent);
  await assertOutsideChain(host, path, chain);
  const link = { ...parentLinkTo(path, parent), diskId: parent.id };
  const before = parent.file.fingerprint();
  const target = await openTarget(host, path, { force, scratch: true });
  try {
    const image = await createImage(target.file, format, {
      type: 'differencing',
      virtualSize,
      parent: link,
      clock: host.clock,
      random: host.random,
      logicalSectorSize: parent.logicalSectorSize,
      physicalSectorSize: parent.physicalSectorSize,
      ...(blockSize === undefined ? {} : { blockSize }),
    });
    await image.flush();
    await assertQuiet(host, parent.file.path);
    assertUnchanged(parent, before);
    const result: CreateResult = {
      path,
      format,
      type: image.type,
      virtualSize: image.virtualSize,
      fileSize: image.file.size(),
      blockSize: image.blockSize ?? null,
      id: image.id ?? null,
      parent: { path: parent.file.path, id: parent.linkId ?? '', virtualSize: parent.virtualSize },
      depth: chain.images.length + 1,
      warnings: remarks(path, parent),
    };
    await target.publish();
    return result;
  } catch (error) {
    await target.discard();
    throw error;
  }
}

function assertUnchanged(parent: DiskImage, before: ReturnType<DiskImage['file']['fingerprint']>): void {
  const now = parent.file.fingerprint();
  if (now?.size === before?.size && now?.mtime === before?.mtime) return;
  const { path } = parent.file;
  throw new VhdkitError('SOURCE_CHANGED', `${path} was written to while a child of it was made`, {
    operation: OPERATION,
    context: { path },
    hint: 'A parent must not change any more. Stop what writes to it, then make the child.',
  });
}

/**
 * Makes a differencing image over `options.parent`.
 * @throws as `create`, and what opening the parent's chain throws; IN_USE, SOURCE_CHANGED (the parent)
 */
export async function createChild(host: Host, options: CreateOptions): Promise<CreateResult> {
  const { path, parent } = options;
  if (parent === undefined) {
    throw refuse('A differencing image needs a parent', 'Name it: --parent FILE.', path);
  }
  const chain = await openWholeChain(host, parent, { maxDepth: MAX_CHAIN_DEPTH - 1 });
  try {
    await assertQuiet(host, parent);
    return await build(host, options, chain);
  } finally {
    await chain.close();
  }
}

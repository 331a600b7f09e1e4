/**
 * Streams that go straight to their target: raw disks onto raw targets, and raw disks of known size into
 * images.
 *
 * Invariant: one pass, nothing is spooled; zeros become holes or unallocated blocks. The target appears
 * under its name only when the stream ended where it should.
 */
import { KiB } from '../../base/bytes.js';
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { Chain } from '../../formats/chain.js';
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import { createImage, openImage } from '../../formats/registry.js';
import { MemoryFile } from '../../io/memory-file.js';
import type { Host } from '../host.js';
import { type OpenTarget, openTarget } from '../target.js';
import { eachBlock, type FillOptions, fill, INPUT_NAME, peek, plainTarget } from './stream-fill.js';
import { planTarget } from './target-plan.js';
import type { ConvertOptions, ConvertResult } from './types.js';

/** Where the partition table is, whatever the sector size. */
const HEAD_BYTES = 64 * KiB;

interface Landed {
  /** Bytes of the stream, and of them those that were written. */
  length: number;
  written: number;
  type: ImageType;
  virtualSize: number;
  fileSize: number;
  warnings: readonly Finding[];
}

/** True when the stream needs no spool. */
export function goesStraight(options: ConvertOptions, to: FormatId): boolean {
  const { input, from, inputSize, output } = options;
  if (!input || from !== 'raw') return false;
  // What went by can't be compared with afterwards.
  if (options.verify) return false;
  // The partition table at the end of the disk must be seen before the first byte is written.
  if (options.reblock || options.sectorSize !== undefined || options.sourceSectorSize !== undefined)
    return false;
  return to === 'raw' || (inputSize !== undefined && !output);
}

/**
 * @throws ALREADY_EXISTS, INVALID_ARGUMENT, TARGET_TOO_SMALL, NO_SPACE, CANCELLED, IO_FAILED
 */
export async function convertStraight(
  host: Host,
  options: ConvertOptions,
  to: FormatId,
): Promise<ConvertResult> {
  const started = host.clock.now();
  const { length, written, type, virtualSize, fileSize, warnings } = options.output
    ? await pass(options)
    : await land(host, options, to);
  return {
    source: options.source,
    target: options.target,
    from: 'raw',
    to,
    type,
    virtualSize,
    fileSize,
    bytes: { shared: 0, kernelCopied: 0, buffered: written, zeroed: length - written },
    elapsedMs: host.clock.now() - started,
    dryRun: false,
    warnings,
    ...(options.profile ? { profile: options.profile } : {}),
  };
}

function fillOptions({ inputSize, signal, progress }: ConvertOptions): FillOptions {
  if (!progress || inputSize === undefined) return { expected: inputSize, signal };
  return { expected: inputSize, signal, onProgress: (done) => progress.update(done, inputSize) };
}

/** From stream to stream: raw stays raw. */
async function pass(options: ConvertOptions): Promise<Landed> {
  const { input, output } = options;
  if (!input || !output) return nothingToDo();
  const length = await eachBlock(input, fillOptions(options), (block) => output.write(block));
  return { length, written: length, type: 'fixed', virtualSize: length, fileSize: length, warnings: [] };
}

async function land(host: Host, options: ConvertOptions, to: FormatId): Promise<Landed> {
  const target = await openTarget(host, options.target, { force: options.force ?? false });
  try {
    return await (options.inputSize === undefined
      ? landRaw(target, options)
      : landImage(host, target, options, to, options.inputSize));
  } catch (error) {
    await target.discard();
    throw isVhdkitError(error) && error.code === 'TARGET_TOO_SMALL' ? tooSmall(options.target, error) : error;
  }
}

/** A raw target grows with the stream. */
async function landRaw(target: OpenTarget, options: ConvertOptions): Promise<Landed> {
  const { input } = options;
  if (!input) return nothingToDo();
  const { file } = target;
  const { length, written } = await fill(input, plainTarget(file), fillOptions(options));
  if (file.kind !== 'device') await file.truncate(length);
  await target.publish();
  return { length, written, type: 'fixed', virtualSize: length, fileSize: length, warnings: [] };
}

async function landImage(
  host: Host,
  target: OpenTarget,
  options: ConvertOptions,
  to: FormatId,
  size: number,
): Promise<Landed> {
  const { input } = options;
  if (!input) return nothingToDo();
  const { head, stream, close } = await peek(input, HEAD_BYTES);
  try {
    const source = await standIn(head, size);
    const { made, warnings: remarks } = await planTarget(host, source, to, options);
    const image = await createImage(target.file, to, made);
    const { length, written } = await fill(stream, image, fillOptions(options));
    await image.flush();
    const fileSize = image.file.size();
    await target.publish();
    const warnings = [...remarks, ...image.warnings];
    return { length, written, type: image.type, virtualSize: image.virtualSize, fileSize, warnings };
  } finally {
    await close();
  }
}

/** A disk of the stream's size of which only the start is known, for what is asked of a source beforehand. */
async function standIn(head: Uint8Array, size: number): Promise<Chain> {
  const file = new MemoryFile(head.subarray(0, size), INPUT_NAME);
  await file.truncate(size);
  return new Chain([await openImage(file, { format: 'raw' })]);
}

function nothingToDo(): never {
  throw new VhdkitError('INVALID_ARGUMENT', 'There is no stream to read', {
    operation: `read ${INPUT_NAME}`,
  });
}

function tooSmall(path: string, cause: VhdkitError): VhdkitError {
  return new VhdkitError('TARGET_TOO_SMALL', cause.message, {
    operation: 'write stream',
    context: { ...cause.context, path },
    cause,
    hint:
      cause.hint ??
      `${INPUT_NAME} is larger than the device: use a larger one. What was on it is overwritten.`,
  });
}

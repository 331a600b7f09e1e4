/**
 * Opening the source of a conversion: a chain of files, or a stream.
 *
 * Invariant: a stream is spooled into an unnamed temporary file, zeros as holes, and then read like any
 * file; that it is, and where, is said. Not here: streams that go to their target without (stream-in.ts).
 */
import { dirname } from 'node:path';
import { formatSize } from '../../base/bytes.js';
import { isVhdkitError, VhdkitError } from '../../base/errors.js';
import { Chain } from '../../formats/chain.js';
import type { FormatId } from '../../formats/disk-image.js';
import { openImage } from '../../formats/registry.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import { snapshotFileSystem } from '../../io/snapshot-file-system.js';
import { createSpool, temporaryFolder } from '../../io/stream-spool.js';
import type { Host } from '../host.js';
import { openTarget } from '../target.js';
import { openWholeChain } from '../whole-chain.js';
import { fill, INPUT_NAME, plainTarget } from './stream-fill.js';
import type { ConvertOptions } from './types.js';

/** @throws what opening a chain throws; NO_SPACE (the spool is full), UNSUPPORTED, INVALID_ARGUMENT, CANCELLED */
export async function openSource(host: Host, options: ConvertOptions): Promise<Chain> {
  const { input, from } = options;
  if (options.openSource) return options.openSource();
  if (!input) {
    const { fileSystem } = host;
    const files = options.snapshotSource ? snapshotFileSystem(fileSystem) : fileSystem;
    return openWholeChain(host, options.source, from ? { format: from } : {}, files);
  }
  await assertTargetPossible(host, options);
  const folder = await spoolFolder(host, options);
  options.notice?.(
    `${INPUT_NAME} is spooled into an unnamed temporary file in ${folder}: ${whySpool(options)}`,
  );
  const file = await spool(folder, input, options);
  const image = await openImage(file, from ? { format: from } : {});
  if (!image.parentLink) return new Chain([image]);
  await image.close();
  throw new VhdkitError(
    'UNSUPPORTED',
    `${INPUT_NAME} is a differencing image, whose parent can't be found from a stream`,
    {
      operation: 'open parent image',
      hint: 'Put it into a file beside its parent and convert that.',
    },
  );
}

/** A target that can't be made is refused before the stream is read, which may take hours. */
async function assertTargetPossible(host: Host, options: ConvertOptions): Promise<void> {
  if (options.output) return;
  const target = await openTarget(host, options.target, { force: options.force ?? false, scratch: true });
  await target.discard();
}

/** Where the spool goes: beside the target, so that extents can be shared later, if the target is a file. */
async function spoolFolder(host: Host, options: ConvertOptions): Promise<string> {
  if (options.tempDir !== undefined) return options.tempDir;
  const isFile = !options.output && (await host.fileSystem.kind(options.target)) !== 'device';
  return isFile ? dirname(options.target) : temporaryFolder();
}

const NEEDS_SEEKING: Record<FormatId, string> = {
  raw: 'the size of a raw disk must be known beforehand; --size SIZE avoids it',
  vhd: 'a VHD is not read front to back',
  vhdx: 'a VHDX is not read front to back',
};

function whySpool(options: ConvertOptions): string {
  const { from, output } = options;
  if (from === undefined) return 'its format shows only at its ends; if it is a raw disk, say -f raw';
  if (options.verify) return '--verify compares the result with it';
  if (options.reblock || options.sectorSize !== undefined)
    return 'partition tables stand at both ends of a disk';
  if (from === 'raw' && output) return 'the tables of the new image go out before the data';
  return NEEDS_SEEKING[from];
}

async function spool(
  folder: string,
  input: AsyncIterable<Uint8Array>,
  options: ConvertOptions,
): Promise<RandomAccessFile> {
  const file = await createSpool(folder, INPUT_NAME);
  let done = 0;
  try {
    const { length } = await fill(input, plainTarget(file), {
      expected: options.inputSize,
      signal: options.signal,
      onProgress: (position) => {
        done = position;
      },
    });
    await file.truncate(length);
    return file;
  } catch (error) {
    await file.close();
    throw isVhdkitError(error) && error.code === 'NO_SPACE' ? spoolFull(folder, done, error) : error;
  }
}

function spoolFull(folder: string, done: number, cause: VhdkitError): VhdkitError {
  const message = `No space left in ${folder}, where ${INPUT_NAME} is spooled, after ${formatSize(done)}`;
  return new VhdkitError('NO_SPACE', message, {
    operation: `spool ${INPUT_NAME}`,
    context: { path: folder, offset: done },
    cause,
    hint: 'Free some space there, or name a folder with more of it: --temp-dir FOLDER.',
  });
}

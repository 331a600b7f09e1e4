/**
 * `create`: a new, empty image.
 */
import { VhdkitError } from '../base/errors.js';
import type { FormatId, ImageType, SectorSize } from '../formats/disk-image.js';
import { createImage } from '../formats/registry.js';
import type { Host } from './host.js';
import { openTarget, targetFormat } from './target.js';

export interface CreateOptions {
  path: string;
  /** Virtual size in bytes. */
  size: number;
  format?: FormatId;
  type?: 'dynamic' | 'fixed';
  blockSize?: number;
  logicalSectorSize?: SectorSize;
  physicalSectorSize?: SectorSize;
  /** Replace an existing file. */
  force?: boolean;
}

export interface CreateResult {
  path: string;
  format: FormatId;
  type: ImageType;
  virtualSize: number;
  fileSize: number;
  blockSize: number | null;
  id: string | null;
}

/** @throws ALREADY_EXISTS, INVALID_ARGUMENT, TARGET_TOO_SMALL, UNSUPPORTED, NO_SPACE, PERMISSION_DENIED */
export async function create(host: Host, options: CreateOptions): Promise<CreateResult> {
  const format = await targetFormat(host, options.path, options.format);
  if (!Number.isSafeInteger(options.size) || options.size <= 0) {
    throw new VhdkitError('INVALID_ARGUMENT', `A disk can't have ${options.size} bytes`, {
      operation: 'create image',
    });
  }
  const type = options.type ?? (format === 'raw' ? 'fixed' : 'dynamic');
  if (format === 'raw') assertRawOptions(options, type);
  const target = await openTarget(host, options.path, { force: options.force ?? false, scratch: true });
  try {
    const image = await createImage(target.file, format, {
      type,
      virtualSize: options.size,
      clock: host.clock,
      random: host.random,
      ...(options.blockSize === undefined ? {} : { blockSize: options.blockSize }),
      ...(options.logicalSectorSize === undefined ? {} : { logicalSectorSize: options.logicalSectorSize }),
      ...(options.physicalSectorSize === undefined ? {} : { physicalSectorSize: options.physicalSectorSize }),
    });
    await image.flush();
    const result: CreateResult = {
      path: options.path,
      format,
      type: image.type,
      virtualSize: image.virtualSize,
      fileSize: image.file.size(),
      blockSize: image.blockSize ?? null,
      id: image.id ?? null,
    };
    await target.publish();
    return result;
  } catch (error) {
    await target.discard();
    throw error;
  }
}

function assertRawOptions(options: CreateOptions, type: 'dynamic' | 'fixed'): void {
  const wrong =
    type === 'dynamic' ? '--type dynamic' : options.blockSize !== undefined ? '--block-size' : undefined;
  if (wrong === undefined) return;
  throw new VhdkitError('INVALID_ARGUMENT', `A raw image has no ${wrong}`, {
    operation: 'create image',
    hint: 'Raw images are sparse by themselves; choose vhd or vhdx for blocks.',
  });
}

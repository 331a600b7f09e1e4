/**
 * `create`: a new, empty image, or one that shows its parent (create-child.ts).
 */
import { VhdkitError } from '../base/errors.js';
import type { FormatId, ImageType, SectorSize } from '../formats/disk-image.js';
import type { Finding } from '../formats/finding.js';
import { createImage } from '../formats/registry.js';
import { createChild } from './create-child.js';
import type { Host } from './host.js';
import { openTarget, targetFormat } from './target.js';

export interface CreateOptions {
  path: string;
  /** Virtual size in bytes; of a differencing image by default the parent's. */
  size?: number;
  format?: FormatId;
  type?: ImageType;
  /** Exactly for differencing images. */
  parent?: string;
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
  /** Of a differencing image. `id` is what the child knows it by. */
  parent?: { path: string; id: string; virtualSize: number };
  /** Of a differencing image: how many images the chain has with it. */
  depth?: number;
  warnings: readonly Finding[];
}

function assertSize(size: number | undefined): number {
  if (size !== undefined && Number.isSafeInteger(size) && size > 0) return size;
  const message = size === undefined ? 'A new disk needs a size' : `A disk can't have ${size} bytes`;
  throw new VhdkitError('INVALID_ARGUMENT', message, { operation: 'create image' });
}

/**
 * @throws ALREADY_EXISTS, INVALID_ARGUMENT, TARGET_TOO_SMALL, UNSUPPORTED, NO_SPACE, PERMISSION_DENIED; with a
 *   parent also IN_USE, SOURCE_CHANGED and what opening its chain throws
 */
export async function create(host: Host, options: CreateOptions): Promise<CreateResult> {
  if (options.type === 'differencing') return createChild(host, options);
  if (options.parent !== undefined) {
    throw new VhdkitError('INVALID_ARGUMENT', 'Only a differencing image has a parent', {
      operation: 'create image',
      context: { path: options.path },
      hint: 'Add --type differencing, or leave the parent out.',
    });
  }
  const format = await targetFormat(host, options.path, options.format);
  const virtualSize = assertSize(options.size);
  const type = options.type ?? (format === 'raw' ? 'fixed' : 'dynamic');
  if (format === 'raw') assertRawOptions(options, type);
  const target = await openTarget(host, options.path, { force: options.force ?? false, scratch: true });
  try {
    const image = await createImage(target.file, format, {
      type,
      virtualSize,
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
      warnings: [],
    };
    await target.publish();
    return result;
  } catch (error) {
    await target.discard();
    throw error;
  }
}

function assertRawOptions(options: CreateOptions, type: ImageType): void {
  const wrong =
    type === 'dynamic' ? '--type dynamic' : options.blockSize !== undefined ? '--block-size' : undefined;
  if (wrong === undefined) return;
  throw new VhdkitError('INVALID_ARGUMENT', `A raw image has no ${wrong}`, {
    operation: 'create image',
    hint: 'Raw images are sparse by themselves; choose vhd or vhdx for blocks.',
  });
}

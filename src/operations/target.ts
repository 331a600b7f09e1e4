/**
 * Choosing and opening the target of a new image: format, type, and a place that is complete or not there.
 *
 * Invariant: a regular file appears under its name only through `publish`; a block device is written in
 * place and only on demand (`force`), never while something else holds it.
 */
import { VhdkitError } from '../base/errors.js';
import type { FormatId } from '../formats/disk-image.js';
import { formatByExtension } from '../formats/registry.js';
import type { ResumableFile } from '../io/file-system.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { Host } from './host.js';
import { refusePast } from './snapshot/present.js';

export interface OpenTarget {
  readonly file: RandomAccessFile;
  /** Gives a new file its name; flushes and closes a device. */
  publish(): Promise<void>;
  /** Removes an unfinished file; closes a device. Does nothing after `publish`. */
  discard(): Promise<void>;
  /** For files that a later run can take up. */
  readonly resumable?: ResumableFile;
}

export interface OpenTargetOptions {
  /** Replace an existing file, or write to a device. */
  force: boolean;
  /** Take up what an interrupted run left. */
  resume?: boolean;
  /** The file will be thrown away: leave alone what an interrupted run left. */
  scratch?: boolean;
}

/**
 * The format of a new image: as asked, else by the name's extension; a device gets a raw image.
 * @throws INVALID_ARGUMENT when neither says
 */
export async function targetFormat(host: Host, path: string, asked: FormatId | undefined): Promise<FormatId> {
  const device = (await host.fileSystem.kind(path)) === 'device';
  const format = asked ?? (device ? 'raw' : formatByExtension(path));
  if (format === undefined) {
    throw new VhdkitError(
      'INVALID_ARGUMENT',
      `The name '${path}' does not say which format the new image is to have`,
      {
        operation: 'choose format',
        context: { path },
        hint: 'Add -O raw, -O vhd or -O vhdx, or an extension such as .img, .vhd or .vhdx.',
      },
    );
  }
  if (device && format !== 'raw') {
    throw new VhdkitError('UNSUPPORTED', `${path} is a block device: only a raw image can be written to it`, {
      operation: 'choose format',
      context: { path },
      hint: 'Leave -O away or say -O raw.',
    });
  }
  return format;
}

/** @throws ALREADY_EXISTS, HAS_SNAPSHOTS, IN_USE, PERMISSION_DENIED, NOT_FOUND, NO_SPACE */
export async function openTarget(host: Host, path: string, options: OpenTargetOptions): Promise<OpenTarget> {
  const { force, resume, scratch } = options;
  if (force) await refusePast(host, path);
  if ((await host.fileSystem.kind(path)) !== 'device') {
    if (scratch) return host.fileSystem.createPending(path, { overwrite: force });
    const resumable = await host.fileSystem.openResumable(path, {
      overwrite: force,
      resume: resume ?? false,
    });
    return {
      file: resumable.file,
      publish: () => resumable.publish(),
      discard: () => resumable.discard(),
      resumable,
    };
  }
  if (resume) {
    throw new VhdkitError(
      'UNSUPPORTED',
      `${path} is a block device: a conversion onto one can't be resumed`,
      {
        operation: 'open target',
        context: { path },
        hint: 'Leave --resume away and start over.',
      },
    );
  }
  if (!force) {
    throw new VhdkitError('ALREADY_EXISTS', `${path} is a block device: what is on it would be overwritten`, {
      operation: 'open target',
      context: { path },
      hint: 'Use --force if that is meant.',
    });
  }
  const file = await host.fileSystem.open(path, { writable: true, exclusive: true });
  return {
    file,
    async publish() {
      await file.flush();
      await file.close();
    },
    discard: () => file.close(),
  };
}

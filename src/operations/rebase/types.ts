/** What `rebase` is asked and what it answers. Types only. */
import type { FormatId } from '../../formats/disk-image.js';
import type { Finding } from '../../formats/finding.js';
import type { BytesMoved } from '../../offload/transfer-types.js';
import type { ProgressSink } from '../host.js';

export interface RebaseOptions {
  /** The child: a differencing image. */
  path: string;
  format?: FormatId;
  /** The parent that it is to have. May be left out only with `relink`. */
  parent?: string;
  /** Change the link alone: no content is read. */
  relink?: boolean;
  /** With `relink` and `parent`: take a parent that the child was not made from. */
  ignoreIdMismatch?: boolean;
  /** Say what would be done and change nothing. */
  dryRun?: boolean;
  signal?: AbortSignal;
  progress?: ProgressSink;
}

export interface RebaseResult {
  path: string;
  format: FormatId;
  /** The parent that the child has now. */
  parent: string;
  /** Where the child said its parent was, as stored; with content kept, where that was found. */
  previousParent: string;
  relink: boolean;
  /** False when the child had this parent already (with `relink`: by the right paths, so nothing was written). */
  linkChanged: boolean;
  /** False when the child had to be told to accept another parent than it was made from. */
  idMatched: boolean;
  /** Bytes of the disk that were read to compare the two parents. */
  compared: number;
  /** Bytes of the disk that the child holds itself now, because the parents differ there. */
  pulled: number;
  /** How they got there. */
  bytes: BytesMoved;
  warnings: readonly Finding[];
  elapsedMs: number;
  dryRun: boolean;
}

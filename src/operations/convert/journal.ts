/**
 * The journal of a conversion: enough to go on after a killed process, and to notice that going on would
 * be wrong.
 *
 * Invariants: everything the journal says is durable in the unfinished target before the journal says it.
 * A journal of another source, of other settings, cut, or of another version is never followed.
 */
import { createHash } from 'node:crypto';
import { VhdkitError } from '../../base/errors.js';
import type { Chain } from '../../formats/chain.js';
import type { CreateImageOptions, FormatId } from '../../formats/disk-image.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { BytesMoved } from '../../offload/transfer-types.js';

const VERSION = 1;

/** What identifies one source file at a moment; all texts, because nanoseconds do not fit into numbers. */
export type SourceIdentity = readonly string[];

export interface Journal {
  /** Identities of the files of the chain, top first. */
  sources: readonly SourceIdentity[];
  /** What the target's layout depends on. */
  settings: string;
  /** Everything in front of this offset of the disk is in the target. */
  position: number;
  /** Length of the unfinished target in bytes at that moment. */
  fileSize: number;
  /** What has been moved so far, over all runs. */
  bytes: BytesMoved;
}

function identityOf(file: RandomAccessFile): SourceIdentity {
  const print = file.fingerprint();
  if (!print) return [file.path, String(file.size())];
  return [print.device, print.inode, print.size, print.mtime, print.ctime].map(String);
}

/** The files a chain consists of, as they are now. */
export function identitiesOf(chain: Chain): SourceIdentity[] {
  return chain.images.map((image) => identityOf(image.file));
}

/**
 * Compares the files of a chain with what they were.
 * @throws SOURCE_CHANGED naming the first file that differs
 */
export function assertUnchanged(chain: Chain, before: readonly SourceIdentity[]): void {
  for (const [index, image] of chain.images.entries()) {
    if (identityOf(image.file).join() === before[index]?.join()) continue;
    const { path } = image.file;
    throw new VhdkitError('SOURCE_CHANGED', `${path} was changed while it was being converted`, {
      operation: 'convert',
      context: { path },
      hint: 'Stop whatever writes to it (a running virtual machine?), or use --snapshot-source where extents can be shared.',
    });
  }
}

/** Settings that decide what the target looks like, in a fixed order. */
export function settingsOf(to: FormatId, options: CreateImageOptions, zeros: string): string {
  const { type, virtualSize, blockSize, logicalSectorSize, physicalSectorSize } = options;
  return [to, type, virtualSize, blockSize, logicalSectorSize, physicalSectorSize, zeros].join(' ');
}

function digest(body: string): string {
  return createHash('sha256').update(body).digest('hex');
}

/** The journal as text: a JSON document that carries its own checksum. */
export function encodeJournal(journal: Journal): string {
  const body = JSON.stringify({ version: VERSION, ...journal });
  return `${JSON.stringify({ vhdkit: 'conversion', sha256: digest(body) })}\n${body}\n`;
}

const isBytes = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function isJournal(value: unknown): value is Journal & { version: number } {
  if (typeof value !== 'object' || value === null) return false;
  const { version, sources, settings, position, fileSize, bytes } = value as Record<string, unknown>;
  if (version !== VERSION || typeof settings !== 'string' || !isBytes(position) || !isBytes(fileSize))
    return false;
  if (!Array.isArray(sources) || !sources.every((s) => Array.isArray(s))) return false;
  if (typeof bytes !== 'object' || bytes === null) return false;
  const { shared, kernelCopied, buffered, zeroed } = bytes as Record<string, unknown>;
  return [shared, kernelCopied, buffered, zeroed].every(isBytes);
}

/** The journal in the text, or undefined when it is cut, foreign or of another version. */
export function decodeJournal(text: string): Journal | undefined {
  const [head, body, ...rest] = text.split('\n');
  if (head === undefined || body === undefined || rest.join('') !== '') return undefined;
  try {
    const { vhdkit, sha256 } = JSON.parse(head) as Record<string, unknown>;
    if (vhdkit !== 'conversion' || sha256 !== digest(body)) return undefined;
    const value: unknown = JSON.parse(body);
    return isJournal(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Why a journal can't be followed, or undefined when it can. */
export function objection(
  journal: Journal | undefined,
  now: { sources: readonly SourceIdentity[]; settings: string; virtualSize: number; fileSize: number },
): string | undefined {
  if (!journal) return 'its journal is damaged or of another version';
  if (journal.sources.map((s) => s.join()).join(' ') !== now.sources.map((s) => s.join()).join(' ')) {
    return 'the source is not what it was then';
  }
  if (journal.settings !== now.settings) return 'it was started with other options';
  if (journal.position > now.virtualSize || journal.fileSize > now.fileSize) {
    return 'the unfinished file is shorter than its journal says';
  }
  return undefined;
}

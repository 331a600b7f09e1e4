/**
 * `check --repair`: puts right what is wrong with one image, and gives back space that nothing uses.
 *
 * Invariants: nothing is changed that is not understood; the old bytes of everything that is changed are saved
 * beside the image before; what could be read reads the same, but for table entries that were dropped, which
 * are listed. Structures come first, then space: blocks are moved only by tables that are sound. Interrupted, the
 * same repair can be run again.
 *
 * Not here: parents. Each image of a chain is repaired by itself.
 */
import { isVhdkitError, throwIfAborted, VhdkitError } from '../base/errors.js';
import type { FormatId } from '../formats/disk-image.js';
import { openImage, probeFormat, repairImage } from '../formats/registry.js';
import type { DroppedEntry, StructureRepair } from '../formats/repair.js';
import { type CheckFinding, type CheckResult, check } from './check.js';
import { findChildren } from './children.js';
import type { Host, ProgressSink } from './host.js';
import { RepairBackup } from './repair/backup.js';
import { returnSpace } from './repair/space.js';
import { openToChange } from './token/own-changes.js';

export type RepairLevel = 'leaks' | 'all';

export interface RepairOptions {
  path: string;
  format?: FormatId;
  level: RepairLevel;
  /** Nothing is changed; `repaired` and `dropped` are what would have been done. */
  dryRun?: boolean;
  signal?: AbortSignal;
  /** Progress of moving blocks, called when it begins. */
  onMove?: () => Promise<ProgressSink>;
}

/** The check after the repair, and what the repair did. */
export interface RepairResult extends CheckResult {
  dropped: DroppedEntry[];
  /** All of them; the list ends after 65536. */
  droppedCount: number;
  /** Old bytes of everything that was changed; null when nothing was. */
  backup: string | null;
  /** Why something was left as it is. */
  refused: string[];
  /** Images that depend on this one although it shows something else where entries were dropped. */
  children: string[];
  dryRun: boolean;
}

const NOTHING: StructureRepair = { dropped: [], droppedCount: 0 };

/**
 * @throws UNSUPPORTED (a device), IN_USE (held elsewhere), NOT_FOUND, PERMISSION_DENIED (the folder takes no backup), NO_SPACE,
 *   CANCELLED, IO_FAILED; CheckUnsupported for a raw image
 */
export async function repair(host: Host, options: RepairOptions): Promise<RepairResult> {
  const { path, dryRun = false } = options;
  if (!dryRun) await assertFile(host, path);
  const lock = dryRun ? undefined : await host.fileSystem.lock(path);
  try {
    const before = await check(host, checkOptions(options));
    const work = new Work(host, options, before);
    try {
      return dryRun ? await work.foresee() : await work.carryOut();
    } finally {
      await work.close();
    }
  } finally {
    await lock?.release();
  }
}

/** Beside a device there is no place that lasts: a backup there would be gone with the next start. */
async function assertFile(host: Host, path: string): Promise<void> {
  if ((await host.fileSystem.kind(path)) !== 'device') return;
  throw new VhdkitError(
    'UNSUPPORTED',
    `${path} is a block device: there is no folder for a backup beside it`,
    {
      operation: 'repair',
      context: { path },
      hint: 'Copy the image to a file and repair that; --dry-run works on the device.',
    },
  );
}

function checkOptions({ path, format, signal }: RepairOptions): Parameters<typeof check>[1] {
  return { path, ...(format ? { format } : {}), ...(signal ? { signal } : {}) };
}

function isSame(a: CheckFinding, b: CheckFinding): boolean {
  return a.path === b.path && a.code === b.code && a.offset === b.offset && a.message === b.message;
}

class Work {
  readonly #host: Host;
  readonly #options: RepairOptions;
  readonly #before: CheckResult;
  readonly #refused: string[] = [];
  #backup: RepairBackup | undefined;

  constructor(host: Host, options: RepairOptions, before: CheckResult) {
    this.#host = host;
    this.#options = options;
    this.#before = before;
  }

  async foresee(): Promise<RepairResult> {
    const { path, level } = this.#options;
    const done = level === 'all' ? await this.#structures() : NOTHING;
    const isWanted = (finding: CheckFinding): boolean =>
      finding.path === path && finding.repairable && (level === 'all' || finding.severity === 'leak');
    const repaired = done.refused === undefined ? this.#before.findings.filter(isWanted) : [];
    return this.#result(this.#before, repaired, done, []);
  }

  async carryOut(): Promise<RepairResult> {
    const { level, path } = this.#options;
    let after = this.#before;
    let done = NOTHING;
    if (level === 'all') {
      done = await this.#structures();
      if (this.#backup?.path !== undefined) after = await check(this.#host, checkOptions(this.#options));
    }
    if (after.findings.some((finding) => finding.path === path && finding.severity === 'leak')) {
      await this.#space();
      after = await check(this.#host, checkOptions(this.#options));
    }
    await this.#finishBackup(done);
    const repaired = this.#before.findings.filter(
      (finding) => finding.path === path && !after.findings.some((other) => isSame(finding, other)),
    );
    return this.#result(after, repaired, done, done.droppedCount > 0 ? await this.#children() : []);
  }

  async close(): Promise<void> {
    await this.#backup?.close();
  }

  #result(
    state: CheckResult,
    repaired: CheckFinding[],
    done: StructureRepair,
    children: string[],
  ): RepairResult {
    return {
      ...state,
      repaired,
      dropped: done.dropped,
      droppedCount: done.droppedCount,
      backup: this.#backup?.path ?? null,
      refused: this.#refused,
      children,
      dryRun: this.#options.dryRun ?? false,
    };
  }

  /** Lets the format work; a refusal is a result, not a failure. */
  async #structures(): Promise<StructureRepair> {
    const { path, dryRun = false, signal } = this.#options;
    const { fileSystem, clock, random } = this.#host;
    const file = dryRun ? await fileSystem.open(path) : await openToChange(this.#host, path);
    try {
      const format = this.#options.format ?? (await probeFormat(file));
      this.#backup ??= new RepairBackup(this.#host, path, file.size());
      const guarded = dryRun ? file : this.#backup.guard(file);
      const access = { clock, random, dryRun, ...(signal ? { signal } : {}) };
      const done = (await repairImage(guarded, format, access)) ?? NOTHING;
      if (done.refused) this.#refused.push(done.refused);
      return done;
    } catch (error) {
      if (!isVhdkitError(error) || !['IMAGE_CORRUPT', 'UNSUPPORTED'].includes(error.code)) throw error;
      this.#refused.push(error.message.replace(`${path}: `, ''));
      return NOTHING;
    } finally {
      await file.close();
    }
  }

  async #space(): Promise<void> {
    const { path, format, signal, onMove } = this.#options;
    throwIfAborted(signal, 'repair');
    const size = await this.#sizeOf(path);
    this.#backup ??= new RepairBackup(this.#host, path, size);
    try {
      await returnSpace(this.#host, this.#backup, {
        path,
        ...(format ? { format } : {}),
        ...(signal ? { signal } : {}),
        ...(onMove ? { onMove } : {}),
      });
    } catch (error) {
      if (!isVhdkitError(error) || !['IMAGE_CORRUPT', 'UNSUPPORTED'].includes(error.code)) throw error;
      this.#refused.push(error.message.replace(`${path}: `, ''));
    }
  }

  async #sizeOf(path: string): Promise<number> {
    const file = await this.#host.fileSystem.open(path);
    const size = file.size();
    await file.close();
    return size;
  }

  async #finishBackup(done: StructureRepair): Promise<void> {
    if (this.#backup?.path === undefined) return;
    for (const dropped of done.dropped) await this.#backup.note({ dropped });
    const file = await this.#host.fileSystem.open(this.#options.path);
    await this.#backup.finish(file);
    await file.close();
  }

  async #children(): Promise<string[]> {
    const image = await openImage(await this.#host.fileSystem.open(this.#options.path));
    try {
      return (await findChildren(this.#host, image)).map(({ path }) => path);
    } finally {
      await image.close();
    }
  }
}

/**
 * The backup of one repair: a journal beside the image with the old bytes of everything that is changed.
 *
 * Invariants: it exists exactly when something was changed; the last line says what the changed places hold
 * after the repair, so that undoing it can tell whether the image was changed since.
 */
import { basename } from 'node:path';
import { crc32c } from '../../base/crc32c.js';
import { isVhdkitError } from '../../base/errors.js';
import { BackupFile } from '../../io/backup-file.js';
import { BackupJournal } from '../../io/backup-journal.js';
import type { RandomAccessFile } from '../../io/random-access-file.js';
import type { Host } from '../host.js';

const CHUNK = 1024 * 1024;
/** Repairs of one image in one second. */
const MAX_NAMES = 100;

/** `disk.vhd.vhdkit-repair-20260102T030405Z.jsonl` */
function backupName(path: string, time: number, attempt: number): string {
  const stamp = new Date(time).toISOString().replace(/[-:]|\.\d+/g, '');
  return `${path}.vhdkit-repair-${stamp}${attempt === 0 ? '' : `-${attempt + 1}`}.jsonl`;
}

/** CRC-32C of all ranges, one after the other; what the file does not have counts as zeros. */
export async function contentOf(
  file: RandomAccessFile,
  ranges: Iterable<readonly [number, number]>,
): Promise<number> {
  let crc = 0;
  for (const [from, to] of ranges) {
    for (let at = from; at < to; at += CHUNK) {
      const bytes = new Uint8Array(Math.min(CHUNK, to - at));
      bytes.fill(0, at < file.size() ? await file.read(bytes, at) : 0);
      crc = crc32c(bytes, crc);
    }
  }
  return crc;
}

export class RepairBackup {
  readonly #host: Host;
  readonly #path: string;
  readonly #size: number;
  #journal: BackupJournal | undefined;
  #wholeFile: BackupFile | undefined;

  /** @param size of the image now, bytes */
  constructor(host: Host, path: string, size: number) {
    this.#host = host;
    this.#path = path;
    this.#size = size;
  }

  /** Where it is; undefined as long as nothing was changed. */
  get path(): string | undefined {
    return this.#journal?.path;
  }

  /** The image, with everything that is changed through it saved. All of one repair share what is saved. */
  guard(file: RandomAccessFile): BackupFile {
    this.#wholeFile = new BackupFile(file, () => this.#begin(), this.#wholeFile);
    return this.#wholeFile;
  }

  async note(line: Readonly<Record<string, unknown>>): Promise<void> {
    await (await this.#begin()).note(line);
  }

  /** Says what the image is like now. Nothing when nothing was changed. */
  async finish(file: RandomAccessFile): Promise<void> {
    if (!this.#journal) return;
    const saved = this.#wholeFile?.saved ?? [];
    await this.#journal.note({ done: { size: file.size(), crc: await contentOf(file, saved) } });
  }

  async close(): Promise<void> {
    await this.#journal?.close();
  }

  async #begin(): Promise<BackupJournal> {
    this.#journal ??= await this.#create();
    return this.#journal;
  }

  async #create(): Promise<BackupJournal> {
    const { fileSystem, clock } = this.#host;
    const now = clock.now();
    const head = {
      vhdkitBackup: 1,
      image: basename(this.#path),
      size: this.#size,
      created: new Date(now).toISOString(),
    } as const;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await BackupJournal.create(fileSystem, backupName(this.#path, now, attempt), head);
      } catch (error) {
        const isTaken = isVhdkitError(error) && error.code === 'ALREADY_EXISTS';
        if (!isTaken || attempt + 1 >= MAX_NAMES) throw error;
      }
    }
  }
}

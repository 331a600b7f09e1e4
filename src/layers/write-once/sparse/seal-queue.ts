/**
 * Makes chunks durable and then written, many with few flushes.
 *
 * Each turn flushes the file once. That flush makes durable the data of the chunks that came before it, and the bits
 * that the turn before put into the first copy of the map; then those are confirmed, and these get their bits. So
 * a chunk takes two flushes, and chunks that come all the time share them: one for each turn, or two where a page of the
 * map was confirmed by the turn before.
 *
 * Invariants: no claim of a page is waited for while another is held (a page that another process is at waits for a
 * later turn), so there is no deadlock. A flush that fails ends the device: nobody can tell what it has lost.
 */
import type { SoundFile } from '../sound-file.js';
import { CHUNKS_PER_PAGE } from './layout.js';
import type { ClaimedPage, PresenceMap, ReservedPage } from './presence-map.js';

interface Waiting {
  chunk: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

interface Claimed {
  page: ClaimedPage;
  members: readonly Waiting[];
}

const FIRST_PAUSE = 1;
const LONGEST_PAUSE = 20;

function chunksOf(members: readonly Waiting[]): number[] {
  return members.map(({ chunk }) => chunk);
}

export class SealQueue {
  readonly #file: SoundFile;
  readonly #map: PresenceMap;
  readonly #pause: (milliseconds: number) => Promise<void>;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;

  constructor(file: SoundFile, map: PresenceMap, pause: (milliseconds: number) => Promise<void>) {
    this.#file = file;
    this.#map = map;
    this.#pause = pause;
  }

  /** Resolves when the chunk is written for ever. Those asked for in one go share their flushes. */
  seal(chunk: number): Promise<void> {
    const sealed = new Promise<void>((resolve, reject) => this.#waiting.push({ chunk, resolve, reject }));
    this.#running ??= this.#run();
    return sealed;
  }

  /** When nothing is under way. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #run(): Promise<void> {
    // What is asked for in the same turn of the event loop goes along.
    await Promise.resolve();
    let claimed: Claimed[] = [];
    let pause = FIRST_PAUSE;
    while (this.#waiting.length > 0 || claimed.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        await this.#file.flush();
      } catch (error) {
        await this.#fail(error, claimed, batch);
        break;
      }
      for (const { page, members } of claimed) {
        await this.#map.confirm(page, chunksOf(members));
        for (const { resolve } of members) resolve();
      }
      claimed = await this.#claim(batch);
      if (claimed.length > 0) pause = FIRST_PAUSE;
      else if (this.#waiting.length > 0) {
        await this.#pause(pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE);
      }
    }
    this.#running = undefined;
    // Something may have come between the last look and this.
    if (this.#waiting.length > 0) this.#running = this.#run();
  }

  /** Page by page. What can't be claimed now waits; what fails is told so and stays unwritten. */
  async #claim(batch: readonly Waiting[]): Promise<Claimed[]> {
    const pages = new Map<number, Waiting[]>();
    for (const waiting of batch) {
      const page = Math.floor(waiting.chunk / CHUNKS_PER_PAGE);
      const members = pages.get(page);
      if (members) members.push(waiting);
      else pages.set(page, [waiting]);
    }
    const reserved: [ReservedPage, readonly Waiting[]][] = [];
    for (const [number, members] of pages) {
      await this.#orReject(members, async () => {
        const page = await this.#map.reserve(number);
        if (page) reserved.push([page, members]);
        else this.#waiting.push(...members);
      });
    }
    // What was confirmed last must be durable before the other copy is written over.
    const sure = reserved.every(([page]) => page.sure);
    const claimed: Claimed[] = [];
    const flushed = sure ? Promise.resolve() : this.#file.flush();
    for (const [page, members] of reserved) {
      await this.#orReject(members, async () => {
        await flushed.catch((error: unknown) => {
          page.release();
          throw error;
        });
        claimed.push({ page: await this.#map.claim(page, chunksOf(members)), members });
      });
    }
    return claimed;
  }

  async #orReject(members: readonly Waiting[], work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      for (const { reject } of members) reject(error);
    }
  }

  async #fail(error: unknown, claimed: readonly Claimed[], batch: readonly Waiting[]): Promise<void> {
    for (const { page, members } of claimed) await this.#map.takeBack(page, chunksOf(members));
    const ended = [...claimed.flatMap(({ members }) => members), ...batch, ...this.#waiting];
    this.#waiting = [];
    for (const { reject } of ended) reject(error);
  }
}

/**
 * Seals chunks of one write-once device in groups: while one group is being made durable the next one
 * gathers, so that many first writes at once share a flush.
 */
import type { ChunkWrite, WriteOnceDevice } from '../../block/write-once-device.js';

interface Waiting {
  write: ChunkWrite;
  resolve: (outcome: 'written' | 'lost') => void;
  reject: (error: unknown) => void;
}

export class SealQueue {
  readonly #device: WriteOnceDevice;
  #waiting: Waiting[] = [];
  #running = false;

  constructor(device: WriteOnceDevice) {
    this.#device = device;
  }

  /** Resolves once the chunk is durable and the device's. @throws what sealing throws */
  seal(write: ChunkWrite): Promise<'written' | 'lost'> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ write, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    // Requests that came in the same turn join the first group.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      await this.#seal(group);
    }
    this.#running = false;
  }

  async #seal(group: readonly Waiting[]): Promise<void> {
    try {
      const outcomes = await this.#device.sealAll(group.map(({ write }) => write));
      for (const [index, { resolve }] of group.entries()) resolve(outcomes[index] ?? 'lost');
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }
}

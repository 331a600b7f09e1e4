/**
 * Gives the storage of blocks back that nobody needs.
 *
 * Invariants: neighbours with the same decision are given back together; everything is durable when it
 * returns. A decision is carried out only after it was made from what is on the disk; a run that was
 * interrupted has given back a part, and running again goes on.
 */
import { throwIfAborted } from '../../base/errors.js';
import type { DataExtent } from '../../block/extent.js';
import type { DiskImage } from '../../formats/disk-image.js';
import type { EditableImage } from '../../formats/editable-image.js';
import { type DecideOptions, type Decision, decide } from './decide.js';

export interface GivenBack {
  blocks: number;
  /** Bytes of storage, by reason. */
  zeros: number;
  freeSpace: number;
  /** Bytes of free space in blocks that stay. */
  insideBlocks: number;
}

export interface GiveBackOptions extends DecideOptions {
  signal?: AbortSignal;
}

/** Adjacent decisions in one call. */
class Run {
  #open: Decision | undefined;
  readonly #image: EditableImage;

  constructor(image: EditableImage) {
    this.#image = image;
  }

  async add(next: Decision): Promise<void> {
    const last = this.#open;
    if (
      last &&
      last.offset + last.length === next.offset &&
      last.action === next.action &&
      last.reason === next.reason
    ) {
      last.length += next.length;
      return;
    }
    await this.finish();
    if (next.action === 'hollow') await hollow(this.#image, next.parts);
    else this.#open = { ...next };
  }

  async finish(): Promise<void> {
    const run = this.#open;
    this.#open = undefined;
    if (!run) return;
    // Free space may have held anything: forgetting it changes what the disk shows.
    const options = { unchanged: run.reason === 'zeros' };
    if (run.action === 'zero' || this.#image.type === 'fixed') {
      await this.#image.zero(run.offset, run.length, options);
    } else await this.#image.discard(run.offset, run.length, options);
  }
}

/** A write of which only the place matters: nobody needs what is there, before and after. */
async function hollow(image: EditableImage, parts: readonly DataExtent[]): Promise<void> {
  for (const { offset, length } of parts) {
    const write = await image.prepareWrite(offset, length);
    try {
      for (const place of write.places) await place.file.punch?.(place.fileOffset, place.length);
    } catch (error) {
      await write.abort().catch(() => undefined);
      throw error;
    }
    await write.commit();
  }
}

/** What could be given back. Nothing is changed. */
export async function survey(
  image: DiskImage,
  options: GiveBackOptions,
  visit?: (decision: Decision) => Promise<void> | void,
): Promise<GivenBack> {
  const given: GivenBack = { blocks: 0, zeros: 0, freeSpace: 0, insideBlocks: 0 };
  for await (const decision of decide(image, options)) {
    throwIfAborted(options.signal, 'compact');
    if (decision.action === 'hollow') given.insideBlocks += decision.stored;
    else {
      given.blocks += 1;
      given[decision.reason] += decision.stored;
    }
    await visit?.(decision);
  }
  return given;
}

/** @throws CANCELLED and what `decide` and the image throw */
export async function giveBack(image: EditableImage, options: GiveBackOptions): Promise<GivenBack> {
  const run = new Run(image);
  const given = await survey(image, options, (decision) => run.add(decision));
  await run.finish();
  await image.flush();
  return given;
}

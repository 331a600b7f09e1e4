/**
 * Running changes of an image on a disk that records, and judging what a crash could have left of it.
 *
 * Every sector must show what it was at some moment between the last flush before the crash and the change that
 * was under way: nothing older, nothing that never was.
 */
import { expect } from 'vitest';
import { vhdxDriver } from '../../../../src/formats/vhdx/driver.js';
import { editVhdx } from '../../../../src/formats/vhdx/edit.js';
import type { EditableVhdx } from '../../../../src/formats/vhdx/editable-vhdx.js';
import { CrashDisk, type Instant, openState, type StateOptions } from '../../../support/crash-disk.js';
import { access, contentOf, keptOpen, put } from './edit-kit.js';

const NAME = 'image.vhdx';
const SECTOR = 512;

export type Step = (image: EditableVhdx) => Promise<unknown>;

/** What the disk showed after a step, and how many operations the file had seen by then. */
interface Moment {
  content: Buffer;
  operations: number;
  isDurable: boolean;
}

export interface CrashedState extends Instant {
  bytes: Uint8Array;
  /** Contents that sectors may have. */
  allowed: readonly Buffer[];
}

/** `durable`: a step after which everything before it must be there. */
export const durable = (step: Step): { step: Step; isDurable: true } => ({ step, isDurable: true });
/** A new session; what was not flushed is lost, so it comes after a flush. */
export const REOPEN = 'reopen';
export const flush = durable((image) => image.flush());

export class CrashScenario {
  readonly #disk: CrashDisk;
  readonly #moments: Moment[] = [];

  constructor(image: Uint8Array) {
    this.#disk = new CrashDisk([[NAME, image]]);
  }

  async run(steps: readonly (Step | { step: Step; isDurable: true } | typeof REOPEN)[]): Promise<this> {
    const open = async (): Promise<EditableVhdx> =>
      editVhdx(await this.#disk.fileSystem().open(NAME, { writable: true }), access);
    let image = await open();
    this.#disk.start();
    this.#moments.push({ content: await contentOf(image), operations: 0, isDurable: true });
    for (const each of steps) {
      if (each === REOPEN) {
        await image.close();
        image = await open();
        continue;
      }
      const step = typeof each === 'function' ? each : each.step;
      await step(image);
      const isDurable = typeof each !== 'function';
      this.#moments.push({ content: await contentOf(image), operations: this.#disk.count, isDurable });
    }
    await image.close();
    this.#disk.stop();
    return this;
  }

  /** Operations recorded. */
  get count(): number {
    return this.#disk.count;
  }

  *states(options: StateOptions): Generator<CrashedState> {
    for (const instant of this.#disk.states(options)) {
      const bytes = instant.state.get(NAME) ?? new Uint8Array();
      yield { ...instant, bytes, allowed: this.#allowedAt(instant.label) };
    }
  }

  #allowedAt(label: string): Buffer[] {
    const done = Number(/(?:after|operation) (\d+)/.exec(label)?.[1] ?? 0);
    const underway = this.#moments.findIndex(({ operations }) => operations >= done);
    const last = underway < 0 ? this.#moments.length - 1 : underway;
    let first = 0;
    for (const [index, moment] of this.#moments.entries()) {
      if (moment.isDurable && moment.operations <= done && index <= last) first = index;
    }
    // Several steps may have left the file alone; all of them were seen.
    const end = this.#moments.findLastIndex(
      ({ operations }) => operations === this.#moments[last]?.operations,
    );
    return this.#moments.slice(Math.min(first, last), end + 1).map(({ content }) => content);
  }
}

/** Opens what the crash left and compares it, sector by sector. */
export async function judge({ state, allowed, label }: CrashedState): Promise<Buffer> {
  const content = await contentOf(await vhdxDriver.open(await openState(state, NAME), {}));
  expect(
    allowed.map(({ length }) => length),
    label,
  ).toContain(content.length);
  compareSectors(content, allowed, label);
  return content;
}

export function compareSectors(content: Buffer, allowed: readonly Buffer[], label: string): void {
  if (allowed.some((each) => each.equals(content))) return;
  for (let at = 0; at < content.length; at += SECTOR) {
    const sector = content.subarray(at, at + SECTOR);
    const isKnown = allowed.some((each) => each.subarray(at, at + SECTOR).equals(sector));
    if (!isKnown) throw new Error(`${label}: the sector at ${at} shows ${sector[0]}, which it never did`);
  }
}

/** Goes on with the image: it must be editable, keep what it shows, and be without defects afterwards. */
export async function goOn({ state, label }: CrashedState, content: Buffer): Promise<void> {
  const file = await openState(state, NAME, true);
  const image = await editVhdx(keptOpen(file), access);
  const last = content.length - SECTOR;
  for (const [offset, value] of [
    [0, 0x77],
    [last, 0x78],
  ] as const) {
    await put(image, offset, Buffer.alloc(SECTOR, value));
    content.fill(value, offset, offset + SECTOR);
  }
  await image.flush();
  await image.close();
  const again = await vhdxDriver.open(file, {});
  expect((await contentOf(again)).equals(content), label).toBe(true);
  const bad = (await again.check()).filter(({ severity }) => severity === 'error' || severity === 'warning');
  expect(bad, label).toEqual([]);
}

/**
 * What is left when the machine stops at any instant while an image is being changed: it opens, and every
 * sector shows what it was before the change or what was being put there.
 */
import { describe, expect, it } from 'vitest';
import { MiB } from '../../../../src/base/bytes.js';
import { buildVhdx, LOG_GUID, logPage, putLogEntry } from '../../../support/vhdx-builder.js';
import { CrashScenario, durable, flush, goOn, judge, REOPEN, type Step } from './edit-crash-kit.js';
import { newImage, put } from './edit-kit.js';

const SIZE = 3 * MiB + 8 * 4096;

const write =
  (offset: number, length: number, value: number): Step =>
  (image) =>
    put(image, offset, Buffer.alloc(length, value));
const zero =
  (offset: number, length: number): Step =>
  (image) =>
    image.zero(offset, length);
const discard =
  (offset: number, length: number): Step =>
  (image) =>
    image.discard(offset, length);

/** Blocks come, go, and come again in the space of others. */
const CHANGES: Parameters<CrashScenario['run']>[0] = [
  write(4096, 8192, 1),
  flush,
  REOPEN,
  write(MiB - 4096, MiB + 8192, 2),
  write(8192, 512, 3),
  flush,
  REOPEN,
  zero(MiB, MiB),
  flush,
  REOPEN,
  write(2 * MiB + 4096, 4096, 4),
  write(3 * MiB, 4096, 5),
  discard(0, MiB),
  flush,
  write(MiB + 512, 1024, 6),
  write(0, 512, 7),
  zero(2 * MiB, 1024),
  flush,
  zero(0, SIZE),
  flush,
  write(2 * MiB - 512, 1024, 8),
  flush,
  // The space of one block may not become another's before the table that says so is durable.
  zero(MiB, MiB),
  write(4096, 4096, 9),
  flush,
];

/** Every state is judged; some are worked on. */
async function judgeAll(scenario: CrashScenario, every = 1, reorderings = 2): Promise<void> {
  let count = 0;
  for (const state of scenario.states({ every, reorderings, seed: 7 })) {
    const content = await judge(state);
    count += 1;
    if (count % 11 === 0) await goOn(state, content);
  }
  expect(count).toBeGreaterThan(20);
}

describe('a crash at any instant', () => {
  it.each(['dynamic', 'fixed', 'differencing'] as const)('while a %s image is changed', async (type) => {
    const image = (await newImage(type, SIZE)).bytes();
    await judgeAll(await new CrashScenario(image).run(CHANGES), type === 'fixed' ? 5 : 3);
  });

  it.each(['dynamic', 'fixed', 'differencing'] as const)('while a %s image is resized', async (type) => {
    const image = (await newImage(type, 2 * MiB + 4096)).bytes();
    const scenario = await new CrashScenario(image).run([
      write(0, 2 * MiB + 4096, 1),
      flush,
      durable((each) => each.resize(4 * MiB + 512, { parentSize: 4 * MiB })),
      write(3 * MiB, 512, 2),
      flush,
      durable((each) => each.resize(2 * MiB + 512)),
      durable((each) => each.resize(3 * MiB, { parentSize: 4 * MiB })),
      write(2 * MiB, 2048, 3),
      flush,
    ]);
    await judgeAll(scenario, 2);
  });

  it('while the type changes', async () => {
    const image = (await newImage('dynamic', SIZE)).bytes();
    const scenario = await new CrashScenario(image).run([
      write(MiB, 512, 1),
      flush,
      durable((each) => each.setType('fixed')),
      write(0, 512, 2),
      flush,
      durable((each) => each.setType('dynamic')),
      zero(0, MiB),
      flush,
    ]);
    await judgeAll(scenario);
  });

  it('while an image with changes in its log is changed for the first time', async () => {
    const built = await buildVhdx({
      virtualSize: 2 * MiB,
      logGuid: LOG_GUID,
      blocks: [{ index: 1, data: [{ offset: 0, bytes: new Uint8Array(512).fill(9) }] }],
    });
    const place = built.places.payload.get(1) ?? 0;
    const updates = [
      { offset: place + 4096, page: logPage(1) },
      { offset: place, zeros: 4096 },
    ];
    await putLogEntry(built, 0, { sequence: 3n, updates });
    const scenario = await new CrashScenario(built.file.bytes()).run([
      write(MiB + 8192, 512, 2),
      flush,
      write(0, 512, 3),
      flush,
    ]);
    await judgeAll(scenario, 1, 8);
  });
});

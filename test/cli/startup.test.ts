/** Starting is cheap: `info` of a small image against an empty Node program. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { run, vhdkit } from '../support/run.js';
import { testFolder } from '../support/tmp.js';

const RUNS = 12;

// The fastest of several interleaved runs: what the program costs, not what else the machine was doing.
test('vhdkit info takes at most three times as long as node -e 0', { retry: 3 }, async () => {
  const image = path.join(testFolder(), 'a.vhdx');
  await vhdkit(['create', image, '64M']);
  let empty = Number.POSITIVE_INFINITY;
  let info = Number.POSITIVE_INFINITY;
  for (let i = 0; i < RUNS; i += 1) {
    empty = Math.min(empty, (await run(process.execPath, ['-e', '0'])).elapsed);
    info = Math.min(info, (await vhdkit(['info', image])).elapsed);
  }
  expect(info / empty).toBeLessThanOrEqual(3);
});

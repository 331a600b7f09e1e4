import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

const settings = { testTimeout: 120_000, hookTimeout: 120_000 };

const UNIT = 'test/unit/**/*.test.ts';

/** Unit tests that judge or change what the whole process has: memory, modules, locks, the environment. */
const ALONE = [
  'test/unit/native/*.test.ts',
  'test/unit/nbd/fuzz.test.ts',
  'test/unit/offload/store/*.test.ts',
  'test/unit/offload/own-changes.test.ts',
];

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    // Half of the time tests wait for the disk, other programs or the clock; none depends on how fast it is.
    maxWorkers: availableParallelism() + 2,
    projects: [
      // By name this one comes first: it has the longest files.
      {
        test: {
          ...settings,
          name: 'each in a process',
          include: ['test/*.test.ts', 'test/!(unit)/**/*.test.ts', ...ALONE],
        },
      },
      // To start a process and load the sources costs more than most of these tests.
      { test: { ...settings, name: 'unit', include: [UNIT], exclude: ALONE, isolate: false } },
    ],
  },
});

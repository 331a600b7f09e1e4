/**
 * Temporary folders: one folder per test run, and within it one per test that asks.
 *
 * Invariant: everything a run makes lies under `runFolder()`, so that the end of the run (or the start of
 * the next one, after a crash) can remove it, mounts and loop devices included.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';

export const RUN_FOLDER_PREFIX = 'vhdkit-test-';
const RUN_FOLDER_VARIABLE = 'VHDKIT_TEST_RUN_FOLDER';

/** Makes the run's folder and tells worker processes about it. Called once, by the global set-up. */
export function createRunFolder(): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), `${RUN_FOLDER_PREFIX}${process.pid}-`));
  process.env[RUN_FOLDER_VARIABLE] = folder;
  return folder;
}

/** The folder of this run. */
export function runFolder(): string {
  const folder = process.env[RUN_FOLDER_VARIABLE];
  if (folder === undefined) return createRunFolder();
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** A new empty folder. The caller removes it, or leaves that to the end of the run. */
export function makeTempFolder(label = 'tmp'): string {
  return mkdtempSync(path.join(runFolder(), `${label}-`));
}

/** A new empty folder that is removed when the current test ends. */
export function testFolder(label = 'test'): string {
  const folder = makeTempFolder(label);
  onTestFinished(() => removeFolder(folder));
  return folder;
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}

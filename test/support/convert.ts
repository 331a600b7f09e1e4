/**
 * `vhdkit convert` as interop tests call it.
 */
import { expect } from 'vitest';
import { difference } from './content.js';
import { vhdkitJson } from './in-process.js';

export interface ConvertReport {
  virtualSize: number;
  fileSize: number;
  bytes: { shared: number; kernelCopied: number; buffered: number; zeroed: number };
  elapsedMs: number;
}

/**
 * Converts, in this process unless an environment is given; fails the test with everything the command said when it
 * can't.
 */
export async function convert(
  source: string,
  target: string,
  args: readonly string[] = [],
  env?: Record<string, string>,
): Promise<ConvertReport> {
  const report = await vhdkitJson(['convert', source, target, ...args], env ? { env } : {});
  return report as unknown as ConvertReport;
}

/** Fails the test unless cmp(1) finds the files identical. */
export async function expectIdentical(a: string, b: string): Promise<void> {
  expect(await difference(a, b), `${a} and ${b}`).toBeUndefined();
}

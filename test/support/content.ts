/**
 * Comparing and hashing files the way independent programs see them.
 */
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { run } from './run.js';

/** SHA-256 of a file's bytes, as hexadecimal text. */
export async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** SHA-256 of a small file, blocking. */
export function sha256Sync(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

/** Undefined when cmp(1) finds the files identical, else what it says. */
export async function difference(a: string, b: string): Promise<string | undefined> {
  const result = await run('cmp', [a, b]);
  return result.status === 0 ? undefined : `${result.stdout}${result.stderr}`.trim() || 'cmp failed';
}

/** Undefined when `qemu-img compare` finds the same contents, else what it says. */
export async function qemuDifference(
  a: { path: string; format: string },
  b: { path: string; format: string },
): Promise<string | undefined> {
  const result = await run('qemu-img', ['compare', '-f', a.format, '-F', b.format, a.path, b.path]);
  return result.status === 0 ? undefined : `${result.stdout}${result.stderr}`.trim();
}

/** Bytes of storage a file uses. */
export function storedBytes(file: string): number {
  return statSync(file).blocks * 512;
}

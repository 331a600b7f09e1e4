/**
 * The images kept in fixtures/, as its manifest lists them.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from './run.js';

export interface FixtureFacts {
  file: string;
  format: 'vhd' | 'vhdx';
  type: 'fixed' | 'dynamic' | 'differencing';
  virtualSize: number;
  parent?: string;
  log?: 'dirty';
  madeBy: string;
  /** SHA-256 of the file. */
  sha256: string;
  /** SHA-256 of the virtual disk. */
  contentSha256: string;
}

/** The path of a fixture. */
export function fixture(name: string): string {
  return path.join(PROJECT_ROOT, 'fixtures', name);
}

export function fixtures(): FixtureFacts[] {
  return (JSON.parse(readFileSync(fixture('manifest.json'), 'utf8')) as { images: FixtureFacts[] }).images;
}

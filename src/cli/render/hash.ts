/** `hash` as text: the line that sha256sum would print. */
import type { HashResult } from '../../operations/hash.js';
import { printable } from './style.js';

export function renderHash({ sha256, path }: HashResult): string[] {
  return [`${sha256}  ${printable(path)}`];
}

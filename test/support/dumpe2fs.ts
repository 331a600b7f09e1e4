/**
 * dumpe2fs as an independent witness of which blocks of an ext file system are free.
 */
import { must } from './run.js';

/** What dumpe2fs lists as free, in bytes, neighbours joined. */
export async function freeByDumpe2fs(image: string): Promise<[number, number][]> {
  const { stdout } = await must('dumpe2fs', [image]);
  const size = Number(/^Block size: +(\d+)/m.exec(stdout)?.[1]);
  // A cluster is listed by its first block.
  const cluster = Number(/^Cluster size: +(\d+)/m.exec(stdout)?.[1] ?? size);
  const joined: [number, number][] = [];
  for (const [, list] of stdout.matchAll(/^ {2}Free blocks: (.+)$/gm)) {
    for (const item of (list ?? '').split(', ')) {
      const [first = 0, last = first] = item.split('-').map(Number);
      const open = joined.at(-1);
      const length = (last - first) * size + cluster;
      if (open && open[0] + open[1] === first * size) open[1] += length;
      else joined.push([first * size, length]);
    }
  }
  return joined;
}

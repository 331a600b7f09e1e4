/**
 * Chains with another parent for their child: an ancestor of it, an image beside it, or one of another disk.
 */
import fc from 'fast-check';
import {
  addImage,
  type BuiltChain,
  buildChain,
  type ChainShape,
  chainShape,
  change,
  hostOf,
  type LinkShape,
  SECTOR,
} from '../merge/chains.js';

export interface ForkShape {
  chain: ChainShape;
  /** `ancestor` and `beside`: which image beneath the child, as a share; an ancestor may be the parent it has. */
  kind: 'ancestor' | 'beside' | 'other';
  which: number;
  /** What is written to the image beside or of another disk, and its size. */
  link: LinkShape;
}

export interface BuiltFork extends BuiltChain {
  child: string;
  parent: string;
  /** What the new parent shows. */
  parentContent: Buffer;
}

const position = fc.double({ min: 0, max: 0.999, noNaN: true });

export function forkShape(format: 'vhd' | 'vhdx'): fc.Arbitrary<ForkShape> {
  const chain = chainShape(format, 4);
  return fc.record({
    chain,
    kind: fc.constantFrom('ancestor' as const, 'beside' as const, 'other' as const),
    which: position,
    link: chain.map(({ links }) => links.at(-1) ?? { growth: 0, steps: [] }),
  });
}

export async function buildFork({ chain, kind, which, link }: ForkShape): Promise<BuiltFork> {
  const built = await buildChain(chain);
  const { disk, paths, contents } = built;
  const index = 1 + Math.floor(which * (paths.length - 1));
  const [child = '', beneath = ''] = [paths[0], paths[index]];
  const shown = contents[index] ?? Buffer.of();
  if (kind === 'ancestor') return { ...built, child, parent: beneath, parentContent: shown };
  const parent = `/d/new.${chain.format}`;
  const size = Math.max(64, shown.length / SECTOR + link.growth) * SECTOR;
  await addImage(hostOf(disk), parent, chain, size, kind === 'beside' ? beneath : undefined);
  const parentContent = Buffer.alloc(size);
  if (kind === 'beside') shown.copy(parentContent);
  await change(hostOf(disk), parent, parentContent, link.steps);
  return { ...built, child, parent, parentContent };
}

const CHUNK = 65536;

/** Bytes in 64 KiB chunks that differ between two disks, either going on with zeros; up to `size`. */
export function differing(a: Buffer, b: Buffer, size: number): number {
  const long = [a, b].map((content) =>
    Buffer.concat([content, Buffer.alloc(Math.max(0, size - content.length))]),
  );
  let sum = 0;
  for (let at = 0; at < size; at += CHUNK) {
    const end = Math.min(at + CHUNK, size);
    const [x, y] = long.map((content) => content.subarray(at, end));
    if (x && y && !x.equals(y)) sum += end - at;
  }
  return sum;
}

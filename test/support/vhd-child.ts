/**
 * A child for a VHD that is there: size, geometry and parent id come from the parent's footer.
 *
 * One relative Windows locator; the bytes are made by vhd-differencing.ts.
 */
import { closeSync, fstatSync, openSync, readSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { differencingVhd } from './vhd-differencing.js';

const SECTOR = 512;

export interface ChildBlock {
  index: number;
  /** Sectors of the block that the child holds, and their bytes. */
  sectors: { index: number; bytes: Buffer }[];
}

export interface VhdChildOptions {
  /** Path of a VHD that has a footer; its size and id are taken from there. */
  parent: string;
  /** Bytes, a power of two. */
  blockSize?: number;
  blocks?: ChildBlock[];
  /** Name stored for the parent instead of its own. */
  parentName?: string;
  uniqueId?: Buffer;
}

function readFooter(file: string): Buffer {
  const descriptor = openSync(file, 'r');
  try {
    const footer = Buffer.alloc(SECTOR);
    readSync(descriptor, footer, 0, SECTOR, fstatSync(descriptor).size - SECTOR);
    if (footer.toString('latin1', 0, 8) !== 'conectix') throw new Error(`${file} has no VHD footer`);
    return footer;
  } finally {
    closeSync(descriptor);
  }
}

/** Writes a differencing VHD at `file`. Without blocks its table is empty: it reads as its parent does. */
export function writeVhdChild(file: string, options: VhdChildOptions): void {
  const { blockSize = 2 * 1024 * 1024, blocks = [] } = options;
  const parentFooter = readFooter(options.parent);
  const name = options.parentName ?? path.basename(options.parent);
  const uniqueId = options.uniqueId ?? Buffer.from('000102030405460788090a0b0c0d0e0f', 'hex');
  const bytes = differencingVhd({
    size: Number(parentFooter.readBigUInt64BE(48)),
    uniqueId,
    parentId: parentFooter.subarray(68, 84),
    parentName: name,
    locators: [{ code: 'W2ru', text: `.\\${name}` }],
    blockSize,
    blocks: blocks.map(({ index, sectors }) => ({
      index,
      sectors: new Map(sectors.map((sector) => [sector.index, sector.bytes])),
    })),
    footer: parentFooter,
  });
  writeFileSync(file, bytes);
}

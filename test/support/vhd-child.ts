/**
 * A differencing VHD written by hand from the specification, independent of vhdkit's own codec.
 *
 * VHD specification 1.0: Hard Disk Footer Format, Dynamic Disk Header Format, Block Allocation Table.
 * Not a general writer: one relative Windows locator, blocks given whole by the caller.
 */
import { closeSync, fstatSync, openSync, readSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const SECTOR = 512;
const UNUSED = 0xffffffff;

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

/** Sum of all bytes, inverted. The checksum field must be zero. */
function checksum(bytes: Uint8Array): number {
  return ~bytes.reduce((sum, byte) => sum + byte, 0) >>> 0;
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

/** The child's footer: the parent's size and geometry, a type and an id of its own. */
function childFooter(parentFooter: Buffer, uniqueId: Buffer): Buffer {
  const footer = Buffer.from(parentFooter);
  footer.writeBigUInt64BE(512n, 16);
  footer.writeUInt32BE(4, 60);
  uniqueId.copy(footer, 68);
  footer.writeUInt32BE(0, 64);
  footer.writeUInt32BE(checksum(footer), 64);
  return footer;
}

function utf16be(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16();
}

function childHeader(parentFooter: Buffer, name: string, entries: number, blockSize: number): Buffer {
  const header = Buffer.alloc(1024);
  header.write('cxsparse', 0, 'latin1');
  header.fill(0xff, 8, 16);
  header.writeBigUInt64BE(BigInt(TABLE_OFFSET), 16);
  header.writeUInt32BE(0x10000, 24);
  header.writeUInt32BE(entries, 28);
  header.writeUInt32BE(blockSize, 32);
  parentFooter.copy(header, 40, 68, 84);
  utf16be(name).copy(header, 64);
  header.write('W2ru', 576, 'latin1');
  header.writeUInt32BE(SECTOR, 580);
  header.writeUInt32BE(Buffer.byteLength(`.\\${name}`, 'utf16le'), 584);
  header.writeBigUInt64BE(BigInt(LOCATOR_OFFSET), 592);
  header.writeUInt32BE(checksum(header), 36);
  return header;
}

const LOCATOR_OFFSET = 1536;
const TABLE_OFFSET = 2048;

function blockBytes(block: ChildBlock, blockSize: number): Buffer {
  const bitmapSize = Math.ceil(blockSize / SECTOR / 8 / SECTOR) * SECTOR;
  const bytes = Buffer.alloc(bitmapSize + blockSize);
  for (const sector of block.sectors) {
    const at = sector.index >> 3;
    bytes.writeUInt8(bytes.readUInt8(at) | (0x80 >> (sector.index & 7)), at);
    sector.bytes.copy(bytes, bitmapSize + sector.index * SECTOR, 0, SECTOR);
  }
  return bytes;
}

/** Writes a differencing VHD at `file`. Without blocks its table is empty: it reads as its parent does. */
export function writeVhdChild(file: string, options: VhdChildOptions): void {
  const { blockSize = 2 * 1024 * 1024, blocks = [] } = options;
  const parentFooter = readFooter(options.parent);
  const name = options.parentName ?? path.basename(options.parent);
  const uniqueId = options.uniqueId ?? Buffer.from('000102030405460788090a0b0c0d0e0f', 'hex');
  const entries = Math.ceil(Number(parentFooter.readBigUInt64BE(48)) / blockSize);
  const table = Buffer.alloc(Math.ceil((entries * 4) / SECTOR) * SECTOR, 0xff);
  const locator = Buffer.alloc(SECTOR);
  locator.write(`.\\${name}`, 0, 'utf16le');
  const footer = childFooter(parentFooter, uniqueId);
  const parts = [footer, childHeader(parentFooter, name, entries, blockSize), locator, table];
  let end = TABLE_OFFSET + table.length;
  for (const block of blocks) {
    const bytes = blockBytes(block, blockSize);
    if (table.readUInt32BE(block.index * 4) !== UNUSED) throw new Error(`block ${block.index} given twice`);
    table.writeUInt32BE(end / SECTOR, block.index * 4);
    parts.push(bytes);
    end += bytes.length;
  }
  writeFileSync(file, Buffer.concat([...parts, footer]));
}

/**
 * Builds differencing VHDs for tests, byte by byte from the specification and without the code under test,
 * so that a mistake in our codecs cannot hide itself.
 */

export interface ChildBlock {
  /** Block index on the disk. */
  index: number;
  /** Sectors the child holds, each with its bytes, or the byte it is filled with. */
  sectors: ReadonlyMap<number, number | Uint8Array>;
}

export interface DifferencingVhd {
  /** Bytes. */
  size: number;
  uniqueId: Uint8Array;
  parentId: Uint8Array;
  /** UTF-16 name in the header; default: empty. */
  parentName?: string;
  /** Locators by platform code (`W2ru`, `W2ku`, `MacX`). */
  locators?: readonly { code: string; text: string; spaceInSectors?: boolean }[];
  blocks?: readonly ChildBlock[];
  /** Bytes; default 2 MiB. */
  blockSize?: number;
  /** ASCII, 4 characters; default `win `. */
  creator?: string;
  /** Take everything but type, id and data offset from this footer. */
  footer?: Uint8Array;
}

function checksum(bytes: Buffer, at: number): void {
  bytes.writeUInt32BE(0, at);
  let sum = 0;
  for (const byte of bytes) sum += byte;
  bytes.writeUInt32BE(~sum >>> 0, at);
}

function utf16be(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16();
}

export function vhdFooter(disk: {
  size: number;
  uniqueId: Uint8Array;
  type: number;
  dataOffset?: number;
  creator?: string;
}): Buffer {
  const footer = Buffer.alloc(512);
  footer.write('conectix', 0, 'latin1');
  footer.writeUInt32BE(2, 8);
  footer.writeUInt32BE(0x00010000, 12);
  footer.writeBigUInt64BE(disk.dataOffset === undefined ? 0xffffffffffffffffn : BigInt(disk.dataOffset), 16);
  footer.write(disk.creator ?? 'win ', 28, 'latin1');
  footer.writeUInt32BE(0x000a0000, 32);
  footer.write('Wi2k', 36, 'latin1');
  footer.writeBigUInt64BE(BigInt(disk.size), 40);
  footer.writeBigUInt64BE(BigInt(disk.size), 48);
  footer.writeUInt32BE(disk.type, 60);
  footer.set(disk.uniqueId, 68);
  checksum(footer, 64);
  return footer;
}

/** The footer of a differencing disk, like another disk's. */
function childFooter(like: Uint8Array, uniqueId: Uint8Array): Buffer {
  const footer = Buffer.from(like);
  footer.writeBigUInt64BE(512n, 16);
  footer.writeUInt32BE(4, 60);
  footer.set(uniqueId, 68);
  checksum(footer, 64);
  return footer;
}

/** The file: footer copy @0, header @512, locator data from 2048 on, then the table, then blocks, then the footer. */
export function differencingVhd(disk: DifferencingVhd): Buffer {
  const blockSize = disk.blockSize ?? 2 * 1024 * 1024;
  const entries = Math.ceil(disk.size / blockSize);
  const bitmapBytes = Math.ceil(blockSize / 512 / 8 / 512) * 512;
  const header = Buffer.alloc(1024);
  const locatorData: Buffer[] = [];
  let at = 2048;
  header.write('cxsparse', 0, 'latin1');
  header.fill(0xff, 8, 16);
  header.writeUInt32BE(0x00010000, 24);
  header.writeUInt32BE(entries, 28);
  header.writeUInt32BE(blockSize, 32);
  header.set(disk.parentId, 40);
  utf16be(disk.parentName ?? '').copy(header, 64, 0, 512);
  for (const [index, { code, text, spaceInSectors }] of (disk.locators ?? []).entries()) {
    const bytes = Buffer.from(text, code === 'MacX' ? 'utf8' : 'utf16le');
    const padded = Buffer.alloc(Math.ceil(bytes.length / 512) * 512);
    bytes.copy(padded);
    const entry = 576 + index * 24;
    header.write(code, entry, 'latin1');
    header.writeUInt32BE(spaceInSectors ? padded.length / 512 : padded.length, entry + 4);
    header.writeUInt32BE(bytes.length, entry + 8);
    header.writeBigUInt64BE(BigInt(at), entry + 16);
    locatorData.push(padded);
    at += padded.length;
  }
  header.writeBigUInt64BE(BigInt(at), 16);
  checksum(header, 36);
  const table = Buffer.alloc(Math.ceil((entries * 4) / 512) * 512, 0xff);
  at += table.length;
  const payload: Buffer[] = [];
  for (const { index, sectors } of disk.blocks ?? []) {
    const block = Buffer.alloc(bitmapBytes + blockSize);
    for (const [sector, value] of sectors) {
      block[sector >> 3] = (block[sector >> 3] ?? 0) | (0x80 >> (sector & 7));
      block.fill(value, bitmapBytes + sector * 512, bitmapBytes + (sector + 1) * 512);
    }
    table.writeUInt32BE(at / 512, index * 4);
    payload.push(block);
    at += block.length;
  }
  const footer = disk.footer
    ? childFooter(disk.footer, disk.uniqueId)
    : vhdFooter({
        size: disk.size,
        uniqueId: disk.uniqueId,
        type: 4,
        dataOffset: 512,
        ...(disk.creator === undefined ? {} : { creator: disk.creator }),
      });
  const gap = Buffer.alloc(512);
  return Buffer.concat([footer, header, gap, ...locatorData, table, ...payload, footer]);
}

/** A fixed VHD around the given content: the simplest parent. */
export function fixedVhd(content: Uint8Array, uniqueId: Uint8Array): Buffer {
  return Buffer.concat([content, vhdFooter({ size: content.length, uniqueId, type: 2 })]);
}

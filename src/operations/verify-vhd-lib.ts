/**
 * vhd-lib as a second, independent reader of dynamic VHDs: the one that Xen Orchestra and XCP-ng use.
 *
 * Invariants: the only file that knows vhd-lib, imported when something is to be verified and never at
 * start-up. It has no imports of its own but types, because the build puts the package's few kilobytes of
 * reader into it: those who install vhdkit need neither vhd-lib nor the libraries that it depends on.
 *
 * vhd-lib trusts what the file says about sizes. Whoever calls it has opened the image with the own reader
 * before, which checks them. Not here: fixed VHDs (vhd-lib knows none), what a complaint means.
 */
import vhdLib from 'vhd-lib/dist/vhd.js';
import type { RandomAccessFile } from '../io/random-access-file.js';
import type { Content } from './content-stream.js';

const SECTOR_BYTES = 512;
/** Longest piece of zeros handed out. */
const MAX_ZEROS = 32 * 1024 * 1024;

/** Loaders differ in what the default of a CommonJS module with a default of its own is. */
const Vhd = typeof vhdLib === 'function' ? vhdLib : vhdLib.default;

type Reader = InstanceType<typeof Vhd>;

/** A VHD as vhd-lib sees it. */
export interface VhdLibDisk {
  /** Bytes. */
  readonly virtualSize: number;
  /** The disk in order; a piece's bytes are valid until the next one is asked for. */
  content(): AsyncGenerator<Content>;
}

/**
 * Has vhd-lib read footers, header and block table.
 * @throws whatever vhd-lib objects to, mostly an AssertionError
 */
export async function openWithVhdLib(file: RandomAccessFile): Promise<VhdLibDisk> {
  const recycled = new RecycledBuffers();
  const handler = {
    async read(_path: string, fresh: Buffer, position: number) {
      const buffer = recycled.take(fresh);
      return { bytesRead: await file.read(buffer, position), buffer };
    },
    getSize: async () => file.size(),
  };
  const reader = new Vhd(handler, file.path);
  await reader.readHeaderAndFooter();
  await reader.readBlockAllocationTable();
  const virtualSize = reader.footer.currentSize;
  return {
    virtualSize,
    content() {
      recycled.start();
      return contentOf(reader, virtualSize);
    },
  };
}

/**
 * Two buffers for blocks, one in use and one being read: vhd-lib makes a new one for each read, which
 * costs next to nothing as long as nobody writes to it.
 */
class RecycledBuffers {
  #buffers: Buffer[] | undefined;
  #turn = 0;

  /** From now on only blocks are read, all of one length. */
  start(): void {
    this.#buffers = [];
  }

  take(fresh: Buffer): Buffer {
    if (!this.#buffers) return fresh;
    this.#turn = 1 - this.#turn;
    const buffer = this.#buffers[this.#turn] ?? fresh;
    this.#buffers[this.#turn] = buffer;
    return buffer;
  }
}

/**
 * A block's data with the sectors zeroed that its bitmap does not have: Windows and XenServer go by the
 * bitmap of a dynamic disk, Xen Orchestra does not, and a good image is the same for all of them.
 */
async function readBlock(reader: Reader, block: number): Promise<Buffer> {
  const { data, bitmap } = await reader._readBlock(block);
  for (let sector = 0; sector * SECTOR_BYTES < data.length; sector += 1) {
    const byte = bitmap[sector >> 3] ?? 0;
    if (byte === 0xff) sector |= 7;
    else if (((byte >> (7 - (sector & 7))) & 1) === 0)
      data.fill(0, sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
  }
  return data;
}

/** The next block is read while the last one is used. */
async function* contentOf(reader: Reader, virtualSize: number): AsyncGenerator<Content> {
  const { blockSize } = reader.header;
  const start = (offset: number): Promise<Buffer> | undefined => {
    const block = offset / blockSize;
    if (offset >= virtualSize || !reader.containsBlock(block)) return undefined;
    const bytes = readBlock(reader, block);
    bytes.catch(() => undefined);
    return bytes;
  };
  let next = start(0);
  try {
    for (let offset = 0; offset < virtualSize; ) {
      const bytes = await next;
      const at = offset;
      offset += blockSize;
      if (bytes) {
        next = start(offset);
        const length = Math.min(blockSize, virtualSize - at);
        yield { offset: at, length, bytes: bytes.subarray(0, length) };
        continue;
      }
      while (offset < virtualSize && offset - at < MAX_ZEROS && !reader.containsBlock(offset / blockSize))
        offset += blockSize;
      next = start(offset);
      yield { offset: at, length: Math.min(offset, virtualSize) - at };
    }
  } finally {
    await next?.catch(() => undefined);
  }
}

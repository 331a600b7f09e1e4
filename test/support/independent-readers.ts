/**
 * Other programs' opinion of an image: qemu-img, libvhdi and vhd-lib. None of them shares code with vhdkit.
 *
 * Each function returns undefined when the program accepts the image, else what it says.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { must, run } from './run.js';
import { makeTempFolder } from './tmp.js';

/** `qemu-img check`: examines the block table. Knows VHDX, not VHD. */
export async function qemuCheckComplaint(file: string, format: string): Promise<string | undefined> {
  const result = await run('qemu-img', ['check', '-f', format, file]);
  return result.status === 0 ? undefined : `${result.stdout}${result.stderr}`;
}

/** Virtual size that qemu-img sees, in bytes. */
export async function qemuVirtualSize(file: string, format: string): Promise<number> {
  const result = await run('qemu-img', ['info', '--output=json', '-f', format, file]);
  if (result.status !== 0) throw new Error(result.stderr);
  return Number((JSON.parse(result.stdout) as { 'virtual-size': number })['virtual-size']);
}

/** vhdiinfo must open it and see the size expected (it writes `Media size : 64 MiB (67108864 bytes)`). */
export async function vhdiComplaint(file: string, size: number): Promise<string | undefined> {
  const result = await run('vhdiinfo', [file]);
  if (result.status !== 0) return `${result.stdout}${result.stderr}`;
  return result.stdout.includes(`(${size} bytes)`) || result.stdout.includes(`: ${size} bytes`)
    ? undefined
    : `another size than ${size}: ${result.stdout}`;
}

/** What libvhdi shows of the last file of a chain: of its files `vhdi1` … `vhdiN` the last is the child. */
export async function vhdiContent(file: string): Promise<Buffer> {
  const mountPoint = makeTempFolder('vhdi');
  await must('vhdimount', [file, mountPoint]);
  try {
    const images = readdirSync(mountPoint).filter((name) => /^vhdi\d+$/.test(name)).length;
    return readFileSync(path.join(mountPoint, `vhdi${images}`));
  } finally {
    await run('umount', ['-l', mountPoint]);
  }
}

/** The part of vhd-lib 0.7 that is used here. */
interface VhdLib {
  default: new (
    handler: VhdHandler,
    path: string,
  ) => {
    footer: { currentSize: number };
    header: { blockSize: number; maxTableEntries: number };
    readHeaderAndFooter(checkSecondFooter?: boolean): Promise<void>;
    readBlockAllocationTable(): Promise<void>;
    containsBlock(block: number): boolean;
    _readBlock(block: number): Promise<{ data: Buffer; bitmap: Buffer }>;
  };
}

interface VhdHandler {
  read(path: string, buffer: Buffer, position: number): Promise<{ bytesRead: number; buffer: Buffer }>;
  getSize(path: string): Promise<number>;
}

/** SHA-256 of the disk's contents as vhd-lib reads a dynamic VHD. @throws what vhd-lib objects to */
export async function vhdLibContentHash(file: string): Promise<string> {
  const vhdLib = createRequire(import.meta.url)('vhd-lib') as VhdLib;
  const handle = await open(file, 'r');
  try {
    const handler: VhdHandler = {
      async read(_path, buffer, position) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
        return { bytesRead, buffer };
      },
      getSize: async () => (await handle.stat()).size,
    };
    const vhd = new vhdLib.default(handler, file);
    await vhd.readHeaderAndFooter();
    await vhd.readBlockAllocationTable();
    const { blockSize } = vhd.header;
    const hash = createHash('sha256');
    const empty = Buffer.alloc(blockSize);
    for (let offset = 0; offset < vhd.footer.currentSize; offset += blockSize) {
      const block = offset / blockSize;
      const data = vhd.containsBlock(block) ? (await vhd._readBlock(block)).data : empty;
      hash.update(data.subarray(0, Math.min(blockSize, vhd.footer.currentSize - offset)));
    }
    return hash.digest('hex');
  } finally {
    await handle.close();
  }
}

/**
 * vhd-lib's check of a chain: every image down to the first dynamic one, found by the name in each header.
 * Its paths have no leading slash.
 */
export async function vhdLibChainComplaint(file: string): Promise<string | undefined> {
  const { checkVhdChain } = createRequire(import.meta.url)('vhd-lib') as {
    checkVhdChain(handler: VhdHandler, path: string): Promise<void>;
  };
  const absolute = (name: string): string => path.resolve('/', name);
  const handler: VhdHandler = {
    async read(name, buffer, position) {
      const handle = await open(absolute(name), 'r');
      try {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
        return { bytesRead, buffer };
      } finally {
        await handle.close();
      }
    },
    getSize: async (name) => (await stat(absolute(name))).size,
  };
  try {
    await checkVhdChain(handler, path.resolve(file).slice(1));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

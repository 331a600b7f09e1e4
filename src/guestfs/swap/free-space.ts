/**
 * Linux swap areas: whatever lies behind the header is of no use after a shutdown.
 *
 * Invariant: given back only when the header is one that mkswap writes, and no suspended system is stored
 * in the area. A suspended system expects all of its disks as it left them, so such an area keeps the
 * whole disk (`hibernated`). Whether the system was shut down cleanly is for the caller to judge, by the
 * file systems beside it (free-space-map.ts).
 *
 * Source: Linux, include/linux/swap.h (union swap_header), kernel/power/swap.c, util-linux libblkid.
 */
import { KiB } from '../../base/bytes.js';
import type { FreeSpaceReader, VolumeRange } from '../free-space.js';
import type { ReadBytes } from '../partition-table.js';

/** Page sizes of the machines that Linux runs on. Bytes. */
const PAGE_SIZES = [4, 8, 16, 32, 64].map((kib) => kib * KiB);
/** The signature ends with the page. */
const SIGNATURE_BYTES = 10;
const SIGNATURE = 'SWAPSPACE2';
const OLD_SIGNATURE = 'SWAP-SPACE';
const SUSPENDED = ['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001', '\xed\xc3\x02\xe9\x98\x56\xe5\x0c'];
const HEADER = { at: 1024, version: 0, lastPage: 4, badPages: 8, bytes: 12 } as const;

async function signatureAt(read: ReadBytes, volume: VolumeRange, pageSize: number): Promise<string> {
  if (volume.length < 2 * pageSize) return '';
  const bytes = await read(volume.offset + pageSize - SIGNATURE_BYTES, SIGNATURE_BYTES);
  return Buffer.from(bytes).toString('latin1');
}

/** Recognises swap areas. */
export const swapFreeSpace: FreeSpaceReader = async (read, volume) => {
  const signatures: string[] = [];
  for (const pageSize of PAGE_SIZES) signatures.push(await signatureAt(read, volume, pageSize));
  if (signatures.some((signature) => SUSPENDED.some((start) => signature.startsWith(start))))
    return { status: 'kept', kind: 'swap', reason: 'a suspended system is stored in it', hibernated: true };
  const kept = (reason: string) => ({ status: 'kept', kind: 'swap', reason }) as const;
  if (signatures.includes(OLD_SIGNATURE)) return kept('a swap area of an old kind');
  const found = signatures.filter((signature) => signature === SIGNATURE);
  if (found.length === 0) return { status: 'other' };
  if (found.length > 1) return kept('two signatures at different page sizes');
  const pageSize = PAGE_SIZES[signatures.indexOf(SIGNATURE)] ?? 0;
  const header = await read(volume.offset + HEADER.at, HEADER.bytes);
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  if (view.getUint32(HEADER.version, true) !== 1) return kept('a swap area of another version or byte order');
  if (view.getUint32(HEADER.badPages, true) !== 0) return kept('it lists bad pages');
  const end = (view.getUint32(HEADER.lastPage, true) + 1) * pageSize;
  if (end > volume.length || end < 2 * pageSize) return kept('it ends outside its volume');
  const range = { offset: volume.offset + pageSize, length: end - pageSize };
  return {
    status: 'free',
    space: {
      kind: 'swap',
      freeBytes: range.length,
      async *ranges() {
        yield range;
      },
    },
  };
};

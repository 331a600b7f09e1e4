/** Streams for tests of `write`, and images to write to. */
import { type WriteOptions, type WriteResult, write } from '../../../../src/operations/write.js';
import { CrashDisk } from '../../../support/crash-disk.js';
import { addImage, change, hostOf, type Step } from '../merge/chains.js';

/** The bytes in chunks of these lengths, in turn, out of one buffer as pipes give them. */
export async function* chunked(
  bytes: Uint8Array,
  lengths: readonly number[] = [65536],
): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(Math.max(1, ...lengths));
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const count = Math.min(Math.max(1, lengths[turn % lengths.length] ?? 1), bytes.length - at);
    buffer.set(bytes.subarray(at, at + count));
    yield buffer.subarray(0, count);
    buffer.fill(0xee);
    at += count;
  }
}

export interface Kind {
  name: string;
  format: 'raw' | 'vhd' | 'vhdx';
  type: 'fixed' | 'dynamic' | 'differencing';
}

export const KINDS: readonly Kind[] = [
  { name: 'raw', format: 'raw', type: 'fixed' },
  { name: 'fixed VHD', format: 'vhd', type: 'fixed' },
  { name: 'dynamic VHD', format: 'vhd', type: 'dynamic' },
  { name: 'differencing VHD', format: 'vhd', type: 'differencing' },
  { name: 'fixed VHDX', format: 'vhdx', type: 'fixed' },
  { name: 'dynamic VHDX', format: 'vhdx', type: 'dynamic' },
  { name: 'differencing VHDX', format: 'vhdx', type: 'differencing' },
];

export const PARENT = '/d/parent';
export const TOP = '/d/top';

/** An image at TOP with what the steps write (over a parent that has them too), and what it shows. */
export async function diskWith(
  { format, type }: Kind,
  size: number,
  steps: readonly Step[],
): Promise<{ disk: CrashDisk; model: Buffer }> {
  const model = Buffer.alloc(size);
  const disk = new CrashDisk(format === 'raw' ? [[TOP, model]] : []);
  const host = hostOf(disk);
  if (format !== 'raw') {
    const isChild = type === 'differencing';
    const shape = { format, blockSize: format === 'vhd' ? 65536 : 1 << 20, baseType: type } as const;
    const base = { ...shape, baseType: isChild ? 'dynamic' : type } as const;
    await addImage(host, isChild ? PARENT : TOP, base, size, undefined);
    if (isChild) {
      await change(host, PARENT, model, steps);
      await addImage(host, TOP, base, size, PARENT);
    }
  }
  await change(host, TOP, model, steps.slice(1));
  return { disk, model };
}

export function writeTo(
  disk: CrashDisk,
  bytes: Uint8Array,
  options: Partial<WriteOptions> & { lengths?: readonly number[] } = {},
): Promise<WriteResult> {
  const { lengths, ...rest } = options;
  return write(hostOf(disk), { path: TOP, input: chunked(bytes, lengths), ...rest });
}

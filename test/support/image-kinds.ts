/**
 * The four kinds of image that are written, in vhdkit's words and in qemu-img's.
 */
import { must } from './run.js';

export interface ImageKind {
  name: string;
  extension: 'vhd' | 'vhdx';
  /** Arguments of `vhdkit convert`. */
  vhdkit: readonly string[];
  /** What qemu-img calls the format. */
  qemu: 'vpc' | 'vhdx';
  /** Arguments of `qemu-img convert`. */
  qemuArgs: readonly string[];
  dynamic: boolean;
}

function kind(format: 'vhd' | 'vhdx', type: 'fixed' | 'dynamic'): ImageKind {
  const qemu = format === 'vhd' ? 'vpc' : 'vhdx';
  // Without force_size qemu-img rounds the size of a VHD up to whole cylinders.
  const options = `subformat=${type}${format === 'vhd' ? ',force_size=on' : ''}`;
  return {
    name: `${type} ${format.toUpperCase()}`,
    extension: format,
    vhdkit: ['-O', format, '--type', type],
    qemu,
    qemuArgs: ['-O', qemu, '-o', options],
    dynamic: type === 'dynamic',
  };
}

export const IMAGE_KINDS: readonly ImageKind[] = [
  kind('vhd', 'fixed'),
  kind('vhd', 'dynamic'),
  kind('vhdx', 'fixed'),
  kind('vhdx', 'dynamic'),
];

/** Has qemu-img write an image from a raw file. */
export async function qemuConvert(raw: string, kindOf: ImageKind, target: string): Promise<void> {
  await must('qemu-img', ['convert', '-f', 'raw', ...kindOf.qemuArgs, raw, target]);
}

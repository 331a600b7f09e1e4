/**
 * Oracle VirtualBox.
 */
import { MiB } from '../../base/bytes.js';
import { vhdSizeRule } from './common-rules.js';
import type { Profile, Rule } from './rule.js';

const MANUAL = 'Oracle VirtualBox User Manual, "Disk Image Files (VDI, VMDK, VHD, HDD)"';
const VHD_SOURCE = 'VirtualBox, src/VBox/Storage/VHD.cpp';
/** From about this many blocks on compacting fails. */
const COMPACTABLE_BLOCKS = 4096;

const FORMAT: Rule = {
  id: 'VIRTUALBOX_FORMAT',
  severity: 'error',
  reason: 'VirtualBox attaches a raw image only through a VMDK descriptor.',
  source: `${MANUAL}; "Using a Raw Host Hard Disk From a Guest"`,
  hint: 'Convert it: vhdkit convert IMAGE disk.vhd --for virtualbox',
  judge: ({ format }) => (format === 'raw' ? 'the image is raw' : undefined),
};

const VHDX: Rule = {
  id: 'VIRTUALBOX_VHDX_READ_ONLY',
  severity: 'error',
  reason: 'VirtualBox reads VHDX but does not write it, so no machine can run from it.',
  source: 'VirtualBox, src/VBox/Storage/VHDX.cpp; `VBoxManage list hddbackends`',
  hint: 'Convert it: vhdkit convert IMAGE disk.vhd --for virtualbox',
  judge: ({ format }) => (format === 'vhdx' ? 'the format is VHDX' : undefined),
};

const BLOCK_SIZE: Rule = {
  id: 'VIRTUALBOX_BLOCK_SIZE',
  severity: 'warning',
  reason: 'VirtualBox and most others make blocks of 2 MiB; other sizes are hardly tested.',
  source: `${VHD_SOURCE}, VHD_BLOCK_SIZE; VHD specification 1.0, Dynamic Disk Header Format`,
  hint: 'Convert it with --for virtualbox.',
  judge: ({ format, blockSize }) =>
    format === 'vhd' && blockSize !== undefined && blockSize !== 2 * MiB
      ? `the blocks have ${blockSize} bytes instead of 2 MiB`
      : undefined,
};

const FIXED: Rule = {
  id: 'VIRTUALBOX_FIXED_NOT_RESIZABLE',
  severity: 'note',
  reason: '`VBoxManage modifymedium --resize` handles dynamic VHDs only.',
  source: 'Oracle VirtualBox User Manual, VBoxManage modifymedium, --resize',
  hint: 'Convert it with --type dynamic if it is to grow later.',
  judge: ({ format, type }) =>
    format === 'vhd' && type === 'fixed' ? "VirtualBox can't resize a fixed VHD" : undefined,
};

const COMPACTING: Rule = {
  id: 'VIRTUALBOX_NOT_COMPACTABLE',
  severity: 'note',
  reason: 'Compacting goes by the distance between blocks without their bitmaps, and fails on large disks.',
  source: `${VHD_SOURCE}, vhdCompact`,
  hint: 'Convert the image anew instead of compacting it in VirtualBox.',
  judge: ({ format, type, blockSize, virtualSize }) =>
    format === 'vhd' &&
    type === 'dynamic' &&
    blockSize !== undefined &&
    virtualSize > COMPACTABLE_BLOCKS * blockSize
      ? "VirtualBox can't compact a VHD with this many blocks"
      : undefined,
};

export const VIRTUALBOX: Profile = {
  name: 'virtualbox',
  title: 'VirtualBox',
  target: { formats: ['vhd'], types: ['dynamic', 'fixed'], blockSize: 2 * MiB, sizeMultiple: MiB },
  rules: [
    FORMAT,
    VHDX,
    vhdSizeRule(
      'VIRTUALBOX',
      'VirtualBox',
      'VHD specification 1.0, Dynamic Disk Header Format, Max Table Entries',
    ),
    BLOCK_SIZE,
    FIXED,
    COMPACTING,
  ],
};

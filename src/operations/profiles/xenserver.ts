/**
 * XenServer and XCP-ng: the storage manager (sm) with blktap's libvhd, and Xen Orchestra with vhd-lib.
 */
import { MiB } from '../../base/bytes.js';
import { gptBackupRule, vhdSizeRule } from './common-rules.js';
import type { Profile, Rule } from './rule.js';

const BLOCK = 2 * MiB;
/** sm: VHD_SIZE_INC. */
const SIZE_STEP = 2 * MiB;

/** What `vhd-util check` refuses, by the codes of our own check. */
const REFUSED_DEFECTS: readonly string[] = [
  'VHD_FOOTER_DAMAGED',
  'VHD_FOOTER_COPY_DAMAGED',
  'VHD_FOOTER_COPIES_DIFFER',
  'VHD_FOOTER_LEGACY',
  'VHD_GEOMETRY_TOO_LARGE',
  'VHD_UNIQUE_ID_ZERO',
  'VHD_RESERVED_FIELD',
];

const FORMAT: Rule = {
  id: 'XENSERVER_FORMAT',
  severity: 'error',
  reason: 'Storage repositories of XenServer keep disks as VHD.',
  source: 'XenServer product documentation, Storage, "Storage repository formats"',
  hint: 'Convert it: vhdkit convert IMAGE disk.vhd --for xenserver',
  judge: ({ format }) => (format === 'vhd' ? undefined : `the format is ${format}, not VHD`),
};

const TYPE: Rule = {
  id: 'XENSERVER_TYPE',
  severity: 'error',
  reason: 'Snapshots and coalescing work on dynamic and differencing VHDs; Xen Orchestra refuses fixed ones.',
  source: 'xen-orchestra, packages/vhd-lib, checkFooter; xapi-project/sm, drivers/vhdutil.py',
  hint: 'Convert it: vhdkit convert IMAGE disk.vhd --for xenserver',
  judge: ({ format, type }) => (format === 'vhd' && type === 'fixed' ? 'the VHD is fixed' : undefined),
};

const BLOCK_SIZE: Rule = {
  id: 'XENSERVER_BLOCK_SIZE',
  severity: 'error',
  reason: 'The storage manager, libvhd and Xen Orchestra count in blocks of 2 MiB.',
  source: 'xapi-project/sm, drivers/vhdutil.py, VHD_BLOCK_SIZE; xapi-project/blktap, vhd/lib/libvhd.c',
  hint: 'Convert it: vhdkit convert IMAGE disk.vhd --for xenserver',
  judge: ({ format, blockSize }) =>
    format === 'vhd' && blockSize !== undefined && blockSize !== BLOCK
      ? `the blocks have ${blockSize} bytes instead of 2 MiB`
      : undefined,
};

const SIZE: Rule = {
  id: 'XENSERVER_SIZE_NOT_2_MIB',
  severity: 'warning',
  reason: 'The storage manager makes disks in steps of 2 MiB, so a copy of this one would be larger.',
  source: 'xapi-project/sm, drivers/vhdutil.py, VHD_SIZE_INC',
  hint: 'Convert it with --for xenserver, which adds zeros up to the next 2 MiB.',
  judge: ({ virtualSize }) =>
    virtualSize % SIZE_STEP === 0
      ? undefined
      : `the virtual size of ${virtualSize} bytes is not a multiple of 2 MiB`,
};

const STRUCTURES: Rule = {
  id: 'XENSERVER_STRUCTURES',
  severity: 'error',
  reason: '`vhd-util check` refuses footers and headers that are not exactly as specified.',
  source: 'xapi-project/blktap, vhd/lib/vhd-util-check.c',
  hint: 'Convert it with --for xenserver, which writes new ones.',
  judge({ defects }) {
    const refused = REFUSED_DEFECTS.filter((code) => defects.includes(code));
    return refused.length > 0 ? `vhd-util refuses it because of ${refused.join(', ')}` : undefined;
  },
};

const VHD_LIB: Rule = {
  id: 'XENSERVER_VHD_LIB',
  severity: 'error',
  reason: 'Xen Orchestra reads VHDs with vhd-lib, which was asked.',
  source: 'xen-orchestra, packages/vhd-lib 0.7.2, readHeaderAndFooter and readBlockAllocationTable',
  hint: 'Convert it with --for xenserver.',
  judge: ({ vhdLibComplaint }) =>
    vhdLibComplaint === undefined ? undefined : `vhd-lib refuses it: ${vhdLibComplaint}`,
};

export const XENSERVER: Profile = {
  name: 'xenserver',
  title: 'XenServer and XCP-ng',
  target: {
    formats: ['vhd'],
    types: ['dynamic'],
    blockSize: BLOCK,
    blockSizeIsFixed: true,
    sizeMultiple: SIZE_STEP,
  },
  rules: [
    FORMAT,
    TYPE,
    BLOCK_SIZE,
    vhdSizeRule('XENSERVER', 'XenServer', 'xapi-project/sm, drivers/vhdutil.py, MAX_VHD_SIZE'),
    SIZE,
    STRUCTURES,
    VHD_LIB,
    gptBackupRule('XENSERVER'),
  ],
  asksVhdLib: true,
};

/**
 * Windows Subsystem for Linux 2: the disk of a distribution, for `wsl --import --vhd` and
 * `wsl --import-in-place`.
 */
import { MiB } from '../../base/bytes.js';
import type { Profile, Rule } from './rule.js';

const IMPORT = 'Microsoft Learn, "Basic commands for WSL", Import a distribution in place';
const DISK = 'Microsoft Learn, "How to manage WSL disk space"';

const FORMAT: Rule = {
  id: 'WSL_FORMAT',
  severity: 'error',
  reason: 'The disk of a distribution is a VHDX.',
  source: IMPORT,
  hint: 'Convert it: vhdkit convert IMAGE ext4.vhdx --for wsl',
  judge: ({ format }) => (format === 'vhdx' ? undefined : `the format is ${format}, not VHDX`),
};

const DIFFERENCING: Rule = {
  id: 'WSL_DIFFERENCING',
  severity: 'error',
  reason: 'WSL attaches one file; a differencing image needs its parents.',
  source: IMPORT,
  hint: 'Convert it with --for wsl, which takes the parents in.',
  judge: ({ type }) => (type === 'differencing' ? 'the image is a differencing one' : undefined),
};

const FIXED: Rule = {
  id: 'WSL_FIXED',
  severity: 'warning',
  reason: 'WSL makes dynamic disks; a fixed one takes its whole size at once.',
  source: DISK,
  hint: 'Convert it with --for wsl.',
  judge: ({ format, type }) => (format === 'vhdx' && type === 'fixed' ? 'the VHDX is fixed' : undefined),
};

const BLOCK_SIZE: Rule = {
  id: 'WSL_BLOCK_SIZE',
  severity: 'note',
  reason: 'WSL makes blocks of 1 MiB, so that a disk of many small files stays small.',
  source: 'microsoft/WSL, WslCoreFilesystem.cpp',
  hint: 'Convert it with --for wsl.',
  judge: ({ format, blockSize }) =>
    format === 'vhdx' && blockSize !== undefined && blockSize !== MiB
      ? `the blocks have ${blockSize / MiB} MiB instead of 1 MiB`
      : undefined,
};

const SECTORS: Rule = {
  id: 'WSL_LARGE_SECTORS',
  severity: 'error',
  reason: 'WSL makes and tests disks with 512-byte sectors only.',
  source: 'microsoft/WSL, WslCoreFilesystem.cpp',
  hint: 'Convert it with --for wsl; a partition table has to be rewritten then.',
  judge: ({ logicalSectorSize }) =>
    logicalSectorSize === 512 ? undefined : `the sectors have ${logicalSectorSize} bytes instead of 512`,
};

const PARTITIONED: Rule = {
  id: 'WSL_PARTITION_TABLE',
  severity: 'warning',
  reason: 'WSL mounts the whole disk of a distribution as ext4 and does not look for partitions.',
  source: IMPORT,
  hint: 'Import the partition alone (copy it out of a raw image first), or use `wsl --mount --vhd DISK --partition N`.',
  judge({ contents }) {
    if (contents === undefined || contents.partitionTable === 'none') return undefined;
    return `the disk has a partition table (${contents.partitionTable.toUpperCase()})`;
  },
};

const EXT4: Rule = {
  id: 'WSL_NOT_EXT4',
  severity: 'warning',
  reason: 'The disk of a distribution is one ext4 file system.',
  source: IMPORT,
  hint: 'Make an ext4 file system on the whole disk, or use `wsl --mount --vhd DISK --type TYPE`.',
  judge: ({ contents }) =>
    contents?.partitionTable === 'none' && contents.wholeDisk !== 'ext4'
      ? 'no ext4 file system begins at the start of the disk'
      : undefined,
};

export const WSL: Profile = {
  name: 'wsl',
  title: 'Windows Subsystem for Linux',
  target: {
    formats: ['vhdx'],
    types: ['dynamic', 'fixed'],
    blockSize: MiB,
    sizeMultiple: 512,
    logicalSectorSize: 512,
  },
  rules: [FORMAT, DIFFERENCING, FIXED, BLOCK_SIZE, SECTORS, PARTITIONED, EXT4],
};

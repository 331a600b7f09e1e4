/**
 * Microsoft Azure: managed disks and images from uploaded VHDs.
 *
 * The limits depend on what the disk is for, which an image does not tell: only what no use accepts is an
 * error.
 */
import { formatSize, GiB, MiB, TiB } from '../../base/bytes.js';
import { gptBackupRule } from './common-rules.js';
import type { ImageFacts, Profile, Rule } from './rule.js';

const FOOTER_BYTES = 512;
const PREPARE = 'Microsoft Learn, "Prepare a Windows VHD or VHDX to upload to Azure"';
const UPLOAD = 'Azure REST API, Disks, CreationData.uploadSizeBytes';
const MANAGED = 'Microsoft Learn, Azure CLI, az disk; "Introduction to Azure managed disks", Disk roles';
/** What `uploadSizeBytes` may be, less the footer. */
const SMALLEST = 20 * MiB;
const LARGEST = 32 * TiB;
const OS_DISK = 4095 * GiB;
const GENERIC_IMAGE = 1023 * GiB;

const isVhd = ({ format }: ImageFacts): boolean => format === 'vhd';
const between = (size: number, above: number, upTo: number): boolean => size > above && size <= upTo;

const FORMAT: Rule = {
  id: 'AZURE_FORMAT',
  severity: 'error',
  reason: 'Azure takes VHD only: neither VHDX nor raw images.',
  source: `${PREPARE}, Convert the virtual disk to a fixed size VHD`,
  hint: 'Convert it: vhdkit convert IMAGE disk.vhd --for azure',
  judge: (facts) => (isVhd(facts) ? undefined : `the format is ${facts.format}, not VHD`),
};

const TYPE: Rule = {
  id: 'AZURE_TYPE',
  severity: 'error',
  reason: 'Azure stores the file as a page blob and finds sector X at offset X, as in a fixed VHD.',
  source: `${PREPARE}, Convert the virtual disk to a fixed size VHD`,
  hint: 'Convert it: vhdkit convert IMAGE disk.vhd --for azure',
  judge: (facts) =>
    isVhd(facts) && facts.type !== 'fixed' ? `the VHD is ${facts.type}, not fixed` : undefined,
};

const WHOLE_MIB: Rule = {
  id: 'AZURE_SIZE_NOT_MIB',
  severity: 'error',
  reason:
    'The virtual size must be a whole number of MiB; the file is 512 bytes longer because of its footer.',
  source: `${PREPARE}, Use Hyper-V Manager to resize the disk; Az.Compute, Add-AzVhd, Description`,
  hint: 'Convert it with --for azure, which adds zeros up to the next MiB.',
  judge({ virtualSize, fileSize }) {
    if (virtualSize % MiB === 0) return undefined;
    const which =
      fileSize !== undefined && fileSize % MiB === 0 ? ' (the file is, but that is not what counts)' : '';
    return `the virtual size of ${virtualSize} bytes is not a whole number of MiB${which}`;
  },
};

const FILE_LENGTH: Rule = {
  id: 'AZURE_FILE_LENGTH',
  severity: 'error',
  reason: 'The footer must be the last 512 bytes, directly behind the disk.',
  source: `${UPLOAD}: the disk and the VHD footer; VHD specification 1.0, Hard Disk Footer Format`,
  hint: 'Convert it again; something was appended to the file or cut off.',
  judge({ format, type, virtualSize, fileSize }) {
    if (format !== 'vhd' || type !== 'fixed' || fileSize === undefined) return undefined;
    const right = virtualSize + FOOTER_BYTES;
    return fileSize === right ? undefined : `the file has ${fileSize} bytes instead of ${right}`;
  },
};

const TOO_SMALL: Rule = {
  id: 'AZURE_TOO_SMALL',
  severity: 'error',
  reason: 'An upload has at least 20 MiB and the footer.',
  source: UPLOAD,
  hint: 'Make the disk larger before the conversion (`truncate -s 20M` for a raw image).',
  judge: ({ virtualSize }) =>
    virtualSize < SMALLEST ? `the disk has ${formatSize(virtualSize)}, less than 20 MiB` : undefined,
};

const TOO_LARGE: Rule = {
  id: 'AZURE_TOO_LARGE',
  severity: 'error',
  reason: 'No disk of Azure can be uploaded with more than 32 TiB.',
  source: UPLOAD,
  hint: 'Spread the data over several disks.',
  refusal: 'TARGET_TOO_SMALL',
  judge: ({ virtualSize }) =>
    virtualSize > LARGEST ? `the disk has ${formatSize(virtualSize)}, more than 32 TiB` : undefined,
};

const OVER_4_TIB: Rule = {
  id: 'AZURE_DATA_DISK_ONLY',
  severity: 'warning',
  reason: 'OS disks, and all disks that are not managed disks, end at 4 TiB (4095 GiB).',
  source: MANAGED,
  hint: 'Fine as a managed data disk; an OS disk has to be smaller.',
  judge: ({ virtualSize }) =>
    between(virtualSize, OS_DISK, LARGEST)
      ? `with ${formatSize(virtualSize)} the disk can only be a managed data disk`
      : undefined,
};

const OVER_2_TIB: Rule = {
  id: 'AZURE_GENERATION_2_ONLY',
  severity: 'warning',
  reason: 'The OS disk of a generation 1 machine ends at 2 TiB, and so does what an MBR can address.',
  source: `${PREPARE}, Convert the virtual disk to a fixed size VHD; ${MANAGED}`,
  hint: 'Fine for data, or for a generation 2 machine that boots from a GPT disk.',
  judge: ({ virtualSize }) =>
    between(virtualSize, 2 * TiB, OS_DISK)
      ? `with ${formatSize(virtualSize)} the disk can't be the OS disk of a generation 1 machine`
      : undefined,
};

const OVER_1_TIB: Rule = {
  id: 'AZURE_OVER_1_TIB',
  severity: 'note',
  reason: 'Older ways to upload an image end at 1 TiB (1023 GiB).',
  source: 'Microsoft/azure-vhd-utils, which ends at 1 TiB',
  hint: 'Upload it to a managed disk (az disk create --upload-type Upload, then azcopy).',
  judge: ({ virtualSize }) =>
    between(virtualSize, GENERIC_IMAGE, 2 * TiB)
      ? `with ${formatSize(virtualSize)} the disk is too large for tools that end at 1 TiB`
      : undefined,
};

const GENERATION: Rule = {
  id: 'AZURE_GENERATION_1_ONLY',
  severity: 'note',
  reason: 'Generation 2 machines boot by UEFI from a GPT disk; generation 1 machines by BIOS.',
  source: 'Microsoft Learn, "Support for generation 2 VMs on Azure"',
  hint: 'If it is an OS disk, create its image with --hyper-v-generation V1.',
  judge: ({ contents }) =>
    contents?.partitionTable === 'mbr'
      ? 'the disk has an MBR: only machines of generation 1 boot from it'
      : undefined,
};

export const AZURE: Profile = {
  name: 'azure',
  title: 'Microsoft Azure',
  target: { formats: ['vhd'], types: ['fixed'], sizeMultiple: MiB },
  rules: [
    FORMAT,
    TYPE,
    WHOLE_MIB,
    FILE_LENGTH,
    TOO_SMALL,
    TOO_LARGE,
    OVER_4_TIB,
    OVER_2_TIB,
    OVER_1_TIB,
    GENERATION,
    gptBackupRule('AZURE'),
  ],
};

import { type RelocatableSubject, relocatableImageSuite } from './relocatable-image.suite.js';

const KiB = 1024;
const MiB = 1024 * KiB;

const subjects: RelocatableSubject[] = [
  { name: 'VHD, 512 KiB blocks', format: 'vhd', blockSize: 512 * KiB, blocks: 9 },
  { name: 'VHD aligned to 64 KiB', format: 'vhd', blockSize: 512 * KiB, blocks: 6, align: 64 * KiB },
  { name: 'VHDX, 1 MiB blocks', format: 'vhdx', blockSize: MiB, blocks: 7, align: MiB },
  { name: 'VHDX, 4096-byte sectors', format: 'vhdx', blockSize: MiB, blocks: 5, sectorSize: 4096 },
];

for (const subject of subjects) relocatableImageSuite(subject);

import { type EditableSubject, editableImageSuite } from './editable-image.suite.js';

const MiB = 1024 * 1024;
const sizes = { size: 2.5 * MiB + 4096, parentSize: 2 * MiB };

const subjects: EditableSubject[] = [
  { name: 'raw', format: 'raw', type: 'fixed', size: 3 * MiB },
  { name: 'VHD fixed', format: 'vhd', type: 'fixed', size: 3 * MiB },
  { name: 'VHD dynamic, 2 MiB blocks', format: 'vhd', type: 'dynamic', ...sizes },
  { name: 'VHD dynamic, 512 KiB blocks', format: 'vhd', type: 'dynamic', blockSize: 512 * 1024, ...sizes },
  { name: 'VHD differencing', format: 'vhd', type: 'differencing', ...sizes },
  { name: 'VHDX fixed', format: 'vhdx', type: 'fixed', blockSize: MiB, ...sizes },
  { name: 'VHDX dynamic, 1 MiB blocks', format: 'vhdx', type: 'dynamic', blockSize: MiB, ...sizes },
  {
    name: 'VHDX dynamic, 4096-byte sectors',
    format: 'vhdx',
    type: 'dynamic',
    blockSize: 2 * MiB,
    sectorSize: 4096,
    ...sizes,
  },
  { name: 'VHDX differencing', format: 'vhdx', type: 'differencing', blockSize: MiB, ...sizes },
  {
    name: 'VHDX differencing, 4096-byte sectors',
    format: 'vhdx',
    type: 'differencing',
    blockSize: 2 * MiB,
    sectorSize: 4096,
    ...sizes,
  },
];

for (const subject of subjects) editableImageSuite(subject);

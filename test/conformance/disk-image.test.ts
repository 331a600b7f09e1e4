import { diskImageSuite } from './disk-image.suite.js';

const KiB = 1024;
const MiB = 1024 * KiB;

diskImageSuite({ name: 'raw', format: 'raw', type: 'fixed', sizeUnit: 512 });
diskImageSuite({ name: 'VHD fixed', format: 'vhd', type: 'fixed', sizeUnit: 512 });
diskImageSuite({ name: 'VHD dynamic', format: 'vhd', type: 'dynamic', sizeUnit: 512 });
diskImageSuite({
  name: 'VHD dynamic, 512 KiB blocks',
  format: 'vhd',
  type: 'dynamic',
  blockSize: 512 * KiB,
  sizeUnit: 512,
});
diskImageSuite({ name: 'VHDX fixed', format: 'vhdx', type: 'fixed', sizeUnit: 512 });
diskImageSuite({ name: 'VHDX dynamic', format: 'vhdx', type: 'dynamic', sizeUnit: 512 });
diskImageSuite({
  name: 'VHDX dynamic, 1 MiB blocks',
  format: 'vhdx',
  type: 'dynamic',
  blockSize: MiB,
  sizeUnit: 512,
});
diskImageSuite({
  name: 'VHDX dynamic, 4096-byte sectors',
  format: 'vhdx',
  type: 'dynamic',
  blockSize: 2 * MiB,
  logicalSectorSize: 4096,
  sizeUnit: 4096,
});

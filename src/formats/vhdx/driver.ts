/**
 * The VHDX driver: what the registry knows of this format.
 */
import type { FormatDriver } from '../disk-image.js';
import { createVhdx, resumeVhdx } from './create.js';
import { editVhdx } from './edit.js';
import { repairVhdx } from './repair.js';
import { VhdxImage } from './vhdx-image.js';

export { isVhdx } from './layout.js';

export const vhdxDriver: FormatDriver = {
  format: 'vhdx',
  open: (file) => VhdxImage.open(file),
  edit: editVhdx,
  create: (file, options) => createVhdx(file, options),
  resume: (file, options) => resumeVhdx(file, options),
  repair: repairVhdx,
};

/**
 * VHD as the registry sees it.
 */
import type { FormatDriver } from '../disk-image.js';
import { createVhd, resumeVhd } from './create.js';
import { editVhd } from './edit.js';
import { openVhd } from './open.js';
import { repairVhd } from './repair.js';

export const vhdDriver: FormatDriver = {
  format: 'vhd',
  open: openVhd,
  edit: editVhd,
  create: createVhd,
  resume: resumeVhd,
  repair: repairVhd,
};

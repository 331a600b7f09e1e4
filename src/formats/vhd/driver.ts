/**
 * VHD as the registry sees it.
 */
import type { FormatDriver } from '../disk-image.js';
import { createVhd, resumeVhd } from './create.js';
import { editVhd } from './edit.js';
import { openVhd } from './open.js';

export const vhdDriver: FormatDriver = {
  format: 'vhd',
  open: openVhd,
  edit: editVhd,
  create: createVhd,
  resume: resumeVhd,
};

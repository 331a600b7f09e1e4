/**
 * VHD as the registry sees it.
 */
import type { FormatDriver } from '../disk-image.js';
import { createVhd, resumeVhd } from './create.js';
import { openVhd } from './open.js';

export const vhdDriver: FormatDriver = {
  format: 'vhd',
  open: openVhd,
  create: createVhd,
  resume: resumeVhd,
};

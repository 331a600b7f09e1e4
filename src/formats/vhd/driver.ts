/**
 * VHD as the registry sees it. Reading is what every command does; making, editing and repairing load
 * their code when they are asked for.
 */
import type { FormatDriver } from '../disk-image.js';
import { openVhd } from './open.js';

export const vhdDriver: FormatDriver = {
  format: 'vhd',
  open: openVhd,
  edit: async (file, access) => (await import('./edit.js')).editVhd(file, access),
  create: async (file, options) => (await import('./create.js')).createVhd(file, options),
  resume: async (file, options) => (await import('./create.js')).resumeVhd(file, options),
  repair: async (file, access) => (await import('./repair.js')).repairVhd(file, access),
};

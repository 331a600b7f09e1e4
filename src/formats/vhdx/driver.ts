/**
 * The VHDX driver: what the registry knows of this format. Reading is what every command does; making,
 * editing and repairing load their code when they are asked for.
 */
import type { FormatDriver } from '../disk-image.js';
import { VhdxImage } from './vhdx-image.js';

export { isVhdx } from './layout.js';

export const vhdxDriver: FormatDriver = {
  format: 'vhdx',
  open: (file) => VhdxImage.open(file),
  edit: async (file, access) => (await import('./edit.js')).editVhdx(file, access),
  create: async (file, options) => (await import('./create.js')).createVhdx(file, options),
  resume: async (file, options) => (await import('./create.js')).resumeVhdx(file, options),
  repair: async (file, access) => (await import('./repair.js')).repairVhdx(file, access),
};

/**
 * The profiles by name.
 */
import { AZURE } from './azure.js';
import { HYPERV } from './hyperv.js';
import type { Profile, ProfileName } from './rule.js';
import { VIRTUALBOX } from './virtualbox.js';
import { WSL } from './wsl.js';
import { XENSERVER } from './xenserver.js';

export const PROFILES: Readonly<Record<ProfileName, Profile>> = {
  azure: AZURE,
  hyperv: HYPERV,
  virtualbox: VIRTUALBOX,
  wsl: WSL,
  xenserver: XENSERVER,
};

/** oclif's hook for unknown commands: says which one was probably meant. */
import type { Hook } from '@oclif/core/hooks';
import { unknownCommand } from '../did-you-mean.js';

const hook: Hook<'command_not_found'> = async ({ id, config }) => {
  // oclif joins everything up to the first flag by colons; the first word is what was meant as a command, or
  // the first two.
  const [first = id, second] = id.split(':');
  throw unknownCommand(first, config.commandIDs, second);
};

export default hook;

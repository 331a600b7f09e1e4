/**
 * Arguments and flags that the snapshot commands share.
 */
import { Flags, pathArg } from './flags.js';

export const imageArg = pathArg('Raw image or block device.');

export const folderFlag = Flags.string({
  helpValue: '<folder>',
  summary: 'Where the snapshots are kept; by default IMAGE.vhdkit-snapshots. Block devices need one.',
});

export const controlFlag = Flags.string({
  helpValue: '<socket>',
  summary: 'The control socket of the server that serves the image: what it does goes on meanwhile.',
});

/** Flags as the operations take them: what was not said is not there. */
export function given<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

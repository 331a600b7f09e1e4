/** LMDB files on a full file system: refused before LMDB is, which would spoil the process's memory. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { makeChildProgram } from '../../support/child-program.js';
import { mountNew } from '../../support/mounts.js';
import { canMount } from '../../support/requires.js';

interface Answer {
  tokens: { taken: number[]; codes: string[] };
  numbers: { taken: number[]; codes: string[] };
  kept: number;
  seen: number;
  deleted: string;
  again: string;
}

describe.skipIf(!canMount('tmpfs'))('LMDB files on a full file system (needs root)', () => {
  it('take what there is storage for, refuse the rest themselves, and still give up what they have', async () => {
    const mount = mountNew('tmpfs', 4);
    onTestFinished(() => mount.unmount());
    const program = await makeChildProgram('lmdb-full-child');
    const { stdout, stderr, status } = spawnSync(process.execPath, [program, mount.path], {
      encoding: 'utf8',
    });
    // LMDB says it there when it can't write a page, and the message is longer than the memory for it.
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const { tokens, numbers, kept, seen, deleted } = JSON.parse(stdout) as Answer;
    expect(tokens.codes).toEqual(['NO_SPACE']);
    expect(tokens.taken.length).toBeGreaterThan(1000);
    expect(kept).toBe(tokens.taken.length);
    expect(numbers.codes).toEqual(['NO_SPACE']);
    expect(seen).toBe(numbers.taken.length);
    expect(deleted).toBe('done');
  });
});

/**
 * The look-up table when its storage fails: what was refused is not there later on, either.
 */
import { describe, expect, it } from 'vitest';
import { VhdkitError } from '../../../../src/base/errors.js';
import { MemoryFile } from '../../../../src/io/memory-file.js';
import { LookupTable } from '../../../../src/layers/two-volumes/lookup-table.js';

const SHAPE = { size: 1 << 20, blockSize: 4096 };

/** A file that fails at flushes, of which what was written before may be there all the same. */
function moodyFile(): { file: MemoryFile; fail: (fails: boolean) => void } {
  const file = new MemoryFile();
  const flush = file.flush.bind(file);
  let failing = false;
  file.flush = async () => {
    if (failing) throw new VhdkitError('IO_FAILED', 'no flush');
    await flush();
  };
  return {
    file,
    fail: (fails) => {
      failing = fails;
    },
  };
}

describe('a look-up table whose storage fails', () => {
  it('has no entry that could not be made durable, now and when it is opened again', async () => {
    const { file, fail } = moodyFile();
    const table = await LookupTable.create(file, SHAPE);
    fail(true);
    await expect(table.add([3])).rejects.toThrow('no flush');
    expect(table.has(3)).toBe(false);
    fail(false);
    // Another one of the same sector, and what a flush of the volumes does.
    await table.add([4]);
    await table.settle(table.removalsSoFar());
    const again = await LookupTable.open(file);
    expect([again.has(3), again.has(4)]).toEqual([false, true]);
  });

  it('settles later what could not be settled', async () => {
    const { file, fail } = moodyFile();
    const table = await LookupTable.create(file, SHAPE);
    await table.add([3]);
    table.remove(3);
    const write = file.write.bind(file);
    file.write = async () => {
      throw new VhdkitError('IO_FAILED', 'no write');
    };
    await expect(table.settle(table.removalsSoFar())).rejects.toThrow('no write');
    file.write = write;
    await table.settle(table.removalsSoFar());
    expect((await LookupTable.open(file)).has(3)).toBe(false);
    fail(false);
  });

  it('is not broken for this run only: writes would go on, and the next run would not know', async () => {
    const { file, fail } = moodyFile();
    const table = await LookupTable.create(file, SHAPE);
    fail(true);
    await expect(table.markBroken('copy-failed')).rejects.toThrow('no flush');
    expect(table.broken).toBeUndefined();
    fail(false);
    await table.markBroken('copy-failed');
    expect(table.broken).toBe('copy-failed');
    expect((await LookupTable.open(file)).broken).toBe('copy-failed');
  });
});

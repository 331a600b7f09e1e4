/** The write-once suite against every kind that there is on one host. */
import { mkdtempSync } from 'node:fs';
import path from 'node:path';
import { afterAll } from 'vitest';
import { createWriteOnce, openWriteOnce } from '../../src/layers/write-once/open.js';
import { mountedFileSystem } from '../support/mounts.js';
import { testFolder } from '../support/tmp.js';
import { PRIMARY, type WriteOnceKit, writeOnceSuite } from './write-once.suite.js';

// Every write is flushed: in memory that takes no time. Crashes have tests of their own.
const memory = mountedFileSystem('tmpfs');
afterAll(() => memory?.unmount());

function newFolder(): string {
  return memory ? mkdtempSync(path.join(memory.path, 'device-')) : testFolder('write-once');
}

function kitOf(
  kind: Parameters<typeof createWriteOnce>[0],
  chunkSize: number,
  shared: boolean,
): WriteOnceKit {
  let count = 0;
  return {
    chunkSize,
    async create(chunks, tail) {
      count += 1;
      const file = path.join(newFolder(), `device-${count}`);
      const size = chunks * chunkSize + tail;
      await createWriteOnce(kind, file, { size, chunkSize, primaryId: PRIMARY });
      return { shared, open: (options) => openWriteOnce(file, options) };
    },
  };
}

writeOnceSuite('sparse', () => kitOf('sparse', 64 * 1024, true));
writeOnceSuite('sparse, smallest chunks', () => kitOf('sparse', 4096, true));
writeOnceSuite('vhd', () => kitOf('vhd', 64 * 1024, false));
writeOnceSuite('vhdx', () => kitOf('vhdx', 1024 * 1024, false));
writeOnceSuite('thin', () => kitOf('thin', 64 * 1024, true));

/** The write-once suite against every kind that there is on one host. */
import path from 'node:path';
import { createWriteOnce, openWriteOnce } from '../../src/layers/write-once/open.js';
import { testFolder } from '../support/tmp.js';
import { PRIMARY, type WriteOnceKit, writeOnceSuite } from './write-once.suite.js';

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
      const file = path.join(testFolder('write-once'), `device-${count}`);
      const size = chunks * chunkSize + tail;
      await createWriteOnce(kind, file, { size, chunkSize, primaryId: PRIMARY });
      return { shared, open: (options) => openWriteOnce(file, options) };
    },
  };
}

writeOnceSuite('sparse', () => kitOf('sparse', 64 * 1024, true));
writeOnceSuite('sparse, smallest chunks', () => kitOf('sparse', 4096, true));

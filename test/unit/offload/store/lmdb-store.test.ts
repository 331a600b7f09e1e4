/** The LMDB token store: conformance. What other processes and a broken folder do to it is beside this file. */
import { openLmdbStore } from '../../../../src/offload/store/lmdb-store.js';
import { describeTokenStore } from '../../../conformance/token-store.suite.js';
import { testFolder } from '../../../support/tmp.js';

describeTokenStore('LMDB', async () => {
  const folder = testFolder('lmdb');
  return Promise.all([openLmdbStore(folder), openLmdbStore(folder)]);
});

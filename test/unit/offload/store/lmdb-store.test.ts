/** The LMDB token store. */
import { openLmdbStore } from '../../../../src/offload/store/lmdb-store.js';
import { describeTokenStore } from '../../../conformance/token-store.suite.js';
import { testFolder } from '../../../support/tmp.js';

describeTokenStore('LMDB', async () => openLmdbStore(testFolder('lmdb')));

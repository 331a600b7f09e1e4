import { MemoryTokenStore } from '../../../../src/offload/store/memory-store.js';
import { describeTokenStore } from '../../../conformance/token-store.suite.js';

describeTokenStore('memory', async () => {
  const store = new MemoryTokenStore();
  return [store, store];
});

import { MemoryTokenStore } from '../../../../src/offload/store/memory-store.js';
import { describeTokenStore } from '../../../conformance/token-store.suite.js';

describeTokenStore('memory', async () => new MemoryTokenStore());

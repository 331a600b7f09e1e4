/** Token stores in NATS JetStream, on a real server. */
import { afterAll, beforeAll, describe } from 'vitest';
import { openTokenStore } from '../../src/offload/store/open.js';
import { describeTokenStore } from '../conformance/token-store.suite.js';
import { type NatsServer, startNats } from '../support/nats.js';
import { lacking } from '../support/requires.js';

const lacks = lacking('nats-server');
describe.skipIf(lacks)(`NATS${lacks}`, () => {
  let server: NatsServer;
  let buckets = 0;
  beforeAll(async () => {
    server = await startNats();
  });
  afterAll(() => server.remove());
  describeTokenStore('NATS', async () => openTokenStore(`${server.url}/b${buckets++}`));
});

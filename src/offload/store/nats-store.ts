/**
 * A token store in a NATS JetStream key-value bucket: several hosts at once, server 2.9 or later.
 *
 * Invariants: a record's revision is its sequence in the bucket's stream. Every change names the revision
 * that it builds on and the server decides. A record is deleted by its sequence, which the server can do
 * only while that record is the current one. Nothing expires by itself (2.9 has no time per key): sweeping
 * deletes by revision, like everybody else.
 *
 * A request without an answer has perhaps been carried out. It is not sent again: the error says so, and the
 * caller asks again with the revision that it has. While the server is away the client goes on trying to
 * reach it; requests then fail after the time-out, and work again once it is back.
 *
 * Who may read the bucket can make tokens: its key lies there. Not here: rights of users, which are the server's.
 */
import type { JetStreamClient, JetStreamManager, JsMsg, StreamInfo } from '@nats-io/jetstream';
import type { NatsConnection, NodeConnectionOptions } from '@nats-io/transport-node';
import { type RandomSource, systemRandom } from '../../base/random.js';
import { systemTimer } from '../../base/timer.js';
import { inEvictionOrder } from './limits.js';
import {
  ALREADY_THERE,
  apiCode,
  bucketConfig,
  FORMAT,
  NO_MESSAGE,
  nobodyThere,
  STREAM_NOT_FOUND,
  shapeComplaint,
  toJson,
  translate,
  WRONG_LAST_SEQUENCE,
} from './nats-bucket.js';
import { ClientSockets } from './nats-sockets.js';
import { NatsUsage } from './nats-usage.js';
import { decodeRecord, encodeRecord } from './record-codec.js';
import { type StoreFailure, storeError } from './store-errors.js';
import {
  type EvictionOrder,
  isWanted,
  type StoredToken,
  type StoreLimits,
  type StoreUsage,
  type TokenRecord,
  type TokenStore,
  type WalkOptions,
} from './token-store.js';

const DEFAULT_BUCKET = 'vhdkit-tokens';
const VERSION = 1;
const KEY_BYTES = 32;
const KEY_ID = /^[0-9a-z]{1,64}$/;
const WALK_BATCH = 256;
const MAX_REASONS = 64;
const DEFAULT_TIMEOUT = 5000;
const RETRY_DELAY = 100;
/** How often a bucket that another one makes is looked for. */
const FINDS = 10;
/** Somebody wins every round, so this many others were faster. */
const MAX_ROUNDS = 200;

export interface NatsStoreOptions {
  /** `nats://[user:password@]host[:port]` or with `tls:`; user without password is a token. */
  server: string;
  bucket?: string;
  /** Content of a credentials file (JWT and seed). */
  credentials?: Uint8Array | undefined;
  /** Longest wait for an answer in milliseconds. */
  timeout?: number;
  random?: RandomSource;
  /** Loads the packages; for tests. */
  load?: () => Promise<NatsPackages>;
}

interface NatsPackages {
  transport: typeof import('@nats-io/transport-node');
  jetstream: typeof import('@nats-io/jetstream');
}

async function loadPackages(): Promise<NatsPackages> {
  const [transport, jetstream] = await Promise.all([
    import('@nats-io/transport-node'),
    import('@nats-io/jetstream'),
  ]);
  return { transport, jetstream };
}

/** The store's name in messages: never with a password. */
function locationOf(url: URL, bucket: string): string {
  return `${url.protocol}//${url.host}/${bucket}`;
}

/**
 * Opens the store in a bucket, which is made if it is not there.
 * @throws UNSUPPORTED (packages missing), PERMISSION_DENIED (`access-denied`), NO_SPACE, TOKEN_STORE_FAILED
 *   (`unreachable`, `timeout`, `no-jetstream`, `wrong-shape`, `not-a-store`, `newer-version`, `damaged`)
 */
export async function openNatsStore(options: NatsStoreOptions): Promise<TokenStore> {
  const { bucket = DEFAULT_BUCKET, timeout = DEFAULT_TIMEOUT } = options;
  const url = new URL(options.server);
  const location = locationOf(url, bucket);
  const packages = await (options.load ?? loadPackages)().catch((error: unknown) => {
    const names = '@nats-io/transport-node @nats-io/jetstream';
    throw storeError('package-missing', location, `a package is not installed: npm install ${names}`, error);
  });
  const sockets = new ClientSockets();
  let connection: NatsConnection | undefined;
  try {
    connection = await sockets.run(() =>
      packages.transport.connect(connectOptions(packages, url, options, timeout)),
    );
    const { jetstream, jetstreamManager } = packages.jetstream;
    const manager = await jetstreamManager(connection, { timeout });
    const client = jetstream(connection, { timeout });
    const store = new NatsTokenStore({ connection, sockets, client, manager, bucket, location, timeout });
    await store.begin(options.random ?? systemRandom);
    return store;
  } catch (error) {
    await connection?.close();
    sockets.close();
    throw translate(error, location, connection !== undefined);
  }
}

function connectOptions(
  { transport }: NatsPackages,
  url: URL,
  options: NatsStoreOptions,
  timeout: number,
): NodeConnectionOptions {
  const user = decodeURIComponent(url.username);
  const pass = decodeURIComponent(url.password);
  const login = user === '' ? {} : pass === '' ? { token: user } : { user, pass };
  const { credentials } = options;
  return {
    servers: url.host,
    name: 'vhdkit',
    timeout,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 250,
    ...login,
    ...(credentials ? { authenticator: transport.credsAuthenticator(credentials) } : {}),
    ...(url.protocol === 'tls:' ? { tls: {} } : {}),
  };
}

interface Parts {
  connection: NatsConnection;
  sockets: ClientSockets;
  client: JetStreamClient;
  manager: JetStreamManager;
  bucket: string;
  location: string;
  timeout: number;
}

class NatsTokenStore implements TokenStore {
  readonly #parts: Parts;
  readonly #stream: string;
  readonly #prefix: string;
  readonly #usage: NatsUsage;
  #key: Uint8Array = new Uint8Array(0);
  #connected = true;
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#stream = `KV_${parts.bucket}`;
    this.#prefix = `$KV.${parts.bucket}`;
    this.#usage = new NatsUsage(
      {
        read: () => this.#fetch(this.#meta('limits')),
        write: (data, expected) => this.#publish(this.#meta('limits'), data, expected),
        walk: () => this.list(),
      },
      parts.location,
    );
    void this.#watchConnection();
  }

  /** Finds or makes the bucket, then its header: whoever is first decides the key. */
  async begin(random: RandomSource): Promise<void> {
    await this.#findOrMakeBucket();
    const subject = this.#meta('store');
    for (let round = 0; round < 3; round += 1) {
      const found = await this.#fetch(subject);
      if (found) return this.#takeHeader(found.data);
      const info = await this.#parts.manager.streams.info(this.#stream);
      if (info.state.messages > 0 && !(await this.#fetch(subject)))
        throw this.#error('not-a-store', 'the bucket has keys of another program');
      const key = Buffer.from(random.bytes(KEY_BYTES)).toString('base64');
      await this.#publish(subject, toJson({ format: FORMAT, version: VERSION, key }), 0);
    }
    throw this.#error('damaged', 'its header does not stay');
  }

  async key(): Promise<Uint8Array> {
    this.#assertOpen();
    return Uint8Array.from(this.#key);
  }

  async get(id: string): Promise<StoredToken | undefined> {
    if (!KEY_ID.test(id)) return undefined;
    const found = await this.#fetch(this.#token(id));
    return found && { record: decodeRecord(id, found.data, this.#parts.location), revision: found.seq };
  }

  async put(record: TokenRecord): Promise<number | undefined> {
    const bytes = encodeRecord(record);
    return this.#usage.changing(undefined, record, () => this.#publish(this.#token(record.id), bytes, 0));
  }

  async update(record: TokenRecord, revision: number): Promise<number | undefined> {
    // An expected revision of 0 would mean: not there.
    if (!(revision > 0)) return undefined;
    const bytes = encodeRecord(record);
    const publish = () => this.#publish(this.#token(record.id), bytes, revision);
    if (!(await this.#usage.counts())) return publish();
    const before = await this.get(record.id);
    if (before?.revision !== revision) return undefined;
    return this.#usage.changing(before.record, record, publish);
  }

  async delete(id: string, revision?: number): Promise<boolean> {
    if (!KEY_ID.test(id)) return false;
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      // Only a sequence that is this token's may be deleted.
      const found = await this.#fetch(this.#token(id));
      if (!found || (revision !== undefined && found.seq !== revision)) return false;
      if (await this.#remove(found.seq)) {
        await this.#usage.removed(() => decodeRecord(id, found.data, this.#parts.location));
        return true;
      }
      if (revision !== undefined) return false;
    }
    throw this.#error('timeout', `token ${id} is changed faster than it can be deleted`);
  }

  /** Walks all of them, whatever is asked for: the server knows no other order than that of their ids. */
  async *list(options: WalkOptions = {}): AsyncGenerator<StoredToken> {
    for await (const message of this.#walk()) {
      const id = message.subject.slice(this.#token('').length);
      const record = decodeRecord(id, message.data, this.#parts.location);
      if (isWanted(record, options)) yield { record, revision: message.seq };
    }
  }

  async count(): Promise<number> {
    const info = await this.#ask(() =>
      this.#parts.manager.streams.info(this.#stream, { subjects_filter: this.#meta('*') }),
    );
    return Math.max(info.state.messages - Object.keys(info.state.subjects ?? {}).length, 0);
  }

  async countRefusal(reason: string): Promise<void> {
    const subject = this.#meta('refusals');
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const found = await this.#fetch(subject);
      const counts = this.#counts(found?.data);
      if (!Object.hasOwn(counts, reason) && Object.keys(counts).length >= MAX_REASONS) return;
      const next = toJson({ ...counts, [reason]: (counts[reason] ?? 0) + 1 });
      if ((await this.#publish(subject, next, found?.seq ?? 0)) !== undefined) return;
    }
  }

  async refusals(): Promise<Record<string, number>> {
    return this.#counts((await this.#fetch(this.#meta('refusals')))?.data);
  }

  limits(): Promise<StoreLimits> {
    return this.#usage.limits();
  }

  setLimits(limits: StoreLimits): Promise<void> {
    return this.#usage.setLimits(limits);
  }

  usage(): Promise<StoreUsage> {
    return this.#usage.count();
  }

  evictionOrder(order: EvictionOrder, now: number): AsyncIterable<StoredToken> {
    return inEvictionOrder(() => this.list(), order, now);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#parts.connection.close();
    this.#parts.sockets.close();
  }

  #token(id: string): string {
    return `${this.#prefix}.token.${id}`;
  }

  #meta(name: string): string {
    return `${this.#prefix}.meta.${name}`;
  }

  /** The stream that somebody else is making, or the failure when there is none. */
  async #findSoon(failure: unknown): Promise<StreamInfo> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#parts.manager.streams.info(this.#stream);
      } catch (error) {
        if (apiCode(error) !== STREAM_NOT_FOUND) throw error;
        if (attempt === FINDS) throw failure;
      }
      await systemTimer.sleep(RETRY_DELAY);
    }
  }

  async #findOrMakeBucket(): Promise<void> {
    const { streams } = this.#parts.manager;
    const wanted = bucketConfig(this.#stream, `${this.#prefix}.>`);
    const info = await streams.info(this.#stream).catch(async (error: unknown) => {
      if (apiCode(error) !== STREAM_NOT_FOUND) throw error;
      // Somebody else may be making it at this moment.
      return streams.add(wanted).catch((failure: unknown) => {
        if (!ALREADY_THERE.includes(apiCode(failure) ?? 0)) throw failure;
        return this.#findSoon(failure);
      });
    });
    const wrong = shapeComplaint(info.config, wanted);
    if (wrong) throw this.#error('wrong-shape', wrong);
  }

  #takeHeader(data: Uint8Array): void {
    const { format, version, key } = this.#json(data);
    if (format !== FORMAT) throw this.#error('not-a-store', 'the bucket has keys of another program');
    if (typeof version !== 'number' || typeof key !== 'string')
      throw this.#error('damaged', 'its header is incomplete');
    if (version > VERSION)
      throw this.#error('newer-version', `it has version ${version}, this vhdkit knows ${VERSION}`);
    this.#key = Uint8Array.from(Buffer.from(key, 'base64'));
    if (this.#key.length !== KEY_BYTES) throw this.#error('damaged', 'its key is incomplete');
  }

  #counts(data: Uint8Array | undefined): Record<string, number> {
    return data ? (this.#json(data) as Record<string, number>) : {};
  }

  #json(data: Uint8Array): Record<string, unknown> {
    let parsed: unknown;
    try {
      parsed = JSON.parse(Buffer.from(data).toString());
    } catch {
      // Said below.
    }
    if (typeof parsed === 'object' && parsed !== null) return parsed as Record<string, unknown>;
    throw this.#error('damaged', "one of its entries can't be read");
  }

  /** The current message of a subject, from the stream's leader: never an old one. */
  async #fetch(subject: string): Promise<{ seq: number; data: Uint8Array } | undefined> {
    const { streams } = this.#parts.manager;
    const query = { last_by_subj: subject };
    const message = await this.#ask(() => streams.getMessage(this.#stream, query));
    return message ? { seq: message.seq, data: message.data } : undefined;
  }

  /** The new revision, or undefined when `expected` is not the current one (0: not there). */
  async #publish(subject: string, data: Uint8Array, expected: number): Promise<number | undefined> {
    const expect = { lastSubjectSequence: expected, streamName: this.#stream };
    return this.#ask(async () => {
      try {
        return (await this.#parts.client.publish(subject, data, { expect })).seq;
      } catch (error) {
        if (WRONG_LAST_SEQUENCE.includes(apiCode(error) ?? 0)) return undefined;
        throw error;
      }
    });
  }

  async #remove(seq: number): Promise<boolean> {
    return this.#ask(async () => {
      try {
        return await this.#parts.manager.streams.deleteMessage(this.#stream, seq, false);
      } catch (error) {
        if (NO_MESSAGE.includes(apiCode(error) ?? 0)) return false;
        throw error;
      }
    });
  }

  /** All token messages, by a consumer that the server forgets when it is not used. */
  async *#walk(): AsyncGenerator<JsMsg> {
    const { client, manager, timeout } = this.#parts;
    const created = await this.#ask(() =>
      manager.consumers.add(this.#stream, {
        ack_policy: 'none',
        deliver_policy: 'all',
        filter_subject: this.#token('*'),
        mem_storage: true,
        inactive_threshold: 60_000_000_000,
      }),
    );
    let pending = created.num_pending;
    const consumer = client.consumers.getConsumerFromInfo(created);
    try {
      while (pending > 0) {
        const before = pending;
        const batch = await this.#ask(async () => {
          const messages: JsMsg[] = [];
          const max_messages = Math.min(pending, WALK_BATCH);
          for await (const message of await consumer.fetch({
            max_messages,
            expires: Math.max(timeout, 1000),
          })) {
            messages.push(message);
            pending = message.info.pending;
          }
          return messages;
        });
        yield* batch;
        // Those that were pending may have been deleted since, so that nothing came.
        if (batch.length === 0) pending = (await this.#ask(() => consumer.info())).num_pending;
        if (batch.length === 0 && pending >= before) throw this.#error('timeout', 'a walk got no answer');
      }
    } finally {
      if (this.#connected && !this.#closed) await consumer.delete().catch(() => undefined);
    }
  }

  async #watchConnection(): Promise<void> {
    for await (const { type } of this.#parts.connection.status()) {
      if (type === 'disconnect') this.#connected = false;
      if (type === 'reconnect') this.#connected = true;
    }
  }

  /** Asks again only while the server says that nobody took the request, as just after it came back. */
  async #ask<T>(request: () => Promise<T>): Promise<T> {
    this.#assertOpen();
    const attempts = Math.ceil(this.#parts.timeout / RETRY_DELAY);
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await request();
      } catch (error) {
        if (nobodyThere(error) && attempt < attempts) {
          await this.#assertBucket();
          await systemTimer.sleep(RETRY_DELAY);
          continue;
        }
        throw translate(error, this.#parts.location, this.#connected);
      }
    }
  }

  /** A bucket that is gone takes no records either: told apart from a server that is not ready yet. */
  async #assertBucket(): Promise<void> {
    const { manager, location } = this.#parts;
    await manager.streams.info(this.#stream).catch((error: unknown) => {
      if (apiCode(error) === STREAM_NOT_FOUND) throw translate(error, location, this.#connected);
    });
  }

  #assertOpen(): void {
    if (this.#closed) throw this.#error('closed', 'it was closed');
  }

  #error(reason: StoreFailure, detail: string): Error {
    return storeError(reason, this.#parts.location, detail);
  }
}

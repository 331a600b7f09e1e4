/**
 * The bucket of a NATS token store: how it has to be, and what the server's answers mean.
 *
 * Invariant: a bucket that passes drops nothing by itself and lets records be deleted. Not here: requests.
 */
import type { StreamConfig } from '@nats-io/jetstream';
import { isVhdkitError } from '../../base/errors.js';
import { MAX_RECORD_BYTES } from './record-codec.js';
import { type StoreFailure, storeError } from './store-errors.js';

export const FORMAT = 'vhdkit token store';
/** JetStream's err_code values (server/errors.json of nats-server). */
export const WRONG_LAST_SEQUENCE = [10071, 10164];
export const NO_MESSAGE = [10037, 10043, 10057];
export const STREAM_NOT_FOUND = 10059;
/** One that is being made has its subjects before it has its name. */
export const ALREADY_THERE = [10058, 10065];
const FULL = [10023, 10047, 10077, 10028, 10122];

export function toJson(value: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** A key-value bucket of one value per key that nothing leaves by itself, whose messages may be deleted. */
export function bucketConfig(
  name: string,
  subject: string,
): Partial<StreamConfig> & { name: string; subjects: string[] } {
  return {
    name,
    subjects: [subject],
    retention: 'limits',
    storage: 'file',
    discard: 'new',
    max_msgs_per_subject: 1,
    max_age: 0,
    max_msg_size: MAX_RECORD_BYTES + 1024,
    allow_rollup_hdrs: true,
    deny_delete: false,
    description: FORMAT,
  };
}

/** What is wrong with a bucket that was there; undefined when it will do. */
export function shapeComplaint(found: StreamConfig, wanted: Partial<StreamConfig>): string | undefined {
  if (found.subjects?.length !== 1 || found.subjects[0] !== wanted.subjects?.[0])
    return 'the stream does not have the subjects of a key-value bucket';
  if (found.mirror || (found.sources?.length ?? 0) > 0) return 'the bucket is a copy of another one';
  if (found.max_age !== 0) return 'the bucket drops what is older than a time of its own';
  if (found.max_msgs_per_subject !== 1) return 'the bucket keeps more than one value per key';
  if (found.discard !== 'new') return 'the bucket drops old records when it is full';
  if (found.storage !== 'file') return 'the bucket is kept in memory only';
  if (found.retention !== 'limits') return 'the bucket drops records once they were read';
  if (found.deny_delete) return "records can't be deleted from the bucket (deny_delete)";
  if (found.max_msg_size !== -1 && found.max_msg_size < MAX_RECORD_BYTES)
    return `the bucket takes no values of ${MAX_RECORD_BYTES} bytes`;
  return undefined;
}

/** JetStream's code for what went wrong, if the server said one. */
export function apiCode(error: unknown): number | undefined {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'number' ? code : undefined;
}

export function nobodyThere(error: unknown): boolean {
  return error instanceof Error && /jetstream is not enabled|no responders/i.test(error.message);
}

export function translate(error: unknown, location: string, connected: boolean): unknown {
  if (isVhdkitError(error) || error instanceof RangeError) return error;
  const code = apiCode(error);
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const fail = (reason: StoreFailure, detail: string) => storeError(reason, location, detail, error);
  if (code === STREAM_NOT_FOUND) return fail('gone', 'the bucket is not there any more');
  if (code !== undefined && FULL.includes(code)) return fail('full', 'the server takes no more');
  if (/authorization|authentication|permission|nkey|credential/i.test(text))
    return fail('access-denied', 'the server refuses the login or the request');
  if (/\btls\b|certificate/i.test(text))
    return fail('unreachable', 'the server has no TLS, or its certificate is not trusted');
  if (nobodyThere(error) || code === 10076 || code === 10039)
    return fail('no-jetstream', 'the server has no JetStream');
  if (!connected || /ECONN|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|refused|closed|Connection|disconnect/i.test(text))
    return fail('unreachable', 'the server does not answer');
  if (/timeout/i.test(text)) return fail('timeout', 'the server took too long to answer');
  return fail('failed', text);
}

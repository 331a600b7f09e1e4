/**
 * How much of the server one client, and all of them together, may take.
 *
 * Invariant: the memory that clients can make the server hold is at most `connections` × (`reserve` + a few
 * input chunks) + `sharedBytes`, whatever they send. Time limits are for clients that hold something up: one that is
 * idle between requests holds nothing and may stay for ever.
 */
import { KiB, MiB } from '../base/bytes.js';

export interface NbdLimits {
  /** Longest READ and WRITE in bytes; announced as the largest payload. */
  readonly requestBytes: number;
  /** Connections at the same time; when all are taken, the oldest that has not finished its handshake makes room. */
  readonly connections: number;
  /** Requests of one connection that are under way. */
  readonly inFlight: number;
  /** Bytes of payload each connection may hold, whatever the others do. */
  readonly reserveBytes: number;
  /** Bytes of payload one connection may hold in all. */
  readonly connectionBytes: number;
  /** Bytes of payload beyond the reserves that all connections may hold together. */
  readonly sharedBytes: number;
  /** Bytes of replies that wait to be taken by a client; with more, none of its requests is begun. */
  readonly pendingBytes: number;
  /** Options a client may send, and their length in bytes. */
  readonly options: number;
  readonly optionBytes: number;
  /** Milliseconds for the handshake, encryption included. */
  readonly handshakeTime: number;
  /** Milliseconds a client may neither take its replies nor go on with the payload it began to send. */
  readonly stallTime: number;
  /** The same while others wait for the memory it holds. */
  readonly stallTimeUnderPressure: number;
  /** What is done for one connection before the others get their turn: requests, and bytes moved. */
  readonly turnRequests: number;
  readonly turnBytes: number;
}

export const DEFAULT_LIMITS: NbdLimits = {
  requestBytes: 32 * MiB,
  connections: 128,
  inFlight: 256,
  reserveBytes: 1 * MiB,
  connectionBytes: 64 * MiB,
  sharedBytes: 128 * MiB,
  pendingBytes: 1 * MiB,
  options: 1000,
  optionBytes: 64 * KiB,
  handshakeTime: 30_000,
  stallTime: 60_000,
  stallTimeUnderPressure: 5_000,
  turnRequests: 64,
  turnBytes: 2 * MiB,
};

/**
 * What a server tells whoever runs it: for logs, statistics and tests. Never anything a client relies on.
 */

/** Why a connection ended. */
export type CloseReason =
  /** The client said so, or closed its end between two requests. */
  | 'client'
  /** The client's end closed in the middle of something, or the network failed. */
  | 'lost'
  /** It broke the protocol so that nobody can tell where the next message begins. */
  | 'protocol'
  /** TLS could not be agreed upon, or the client's certificate was not accepted. */
  | 'tls'
  /** The handshake took too long. */
  | 'handshake-time'
  /** It neither took its replies nor went on sending. */
  | 'stalled'
  /** A mistake of the program: the event `fault` tells which. */
  | 'fault'
  /** Made room for another one. */
  | 'displaced'
  /** Its export was taken out of service. */
  | 'dropped'
  /** The server closes. */
  | 'shutdown';

export type NbdEvent =
  | { type: 'connected'; id: number; peer: string }
  /** More connections than the limit allows: the newcomer was closed at once. */
  | { type: 'refused'; peer: string }
  /** `subject`: the name in the client's certificate. */
  | { type: 'ready'; id: number; export: string; encrypted: boolean; subject?: string }
  /** `detail`: what broke the protocol, or what the system said. */
  | { type: 'closed'; id: number; reason: CloseReason; detail?: string }
  /** A request that failed for a reason in the server: not one that the client should not have sent. */
  | { type: 'failed'; id: number; export: string; command: number; error: unknown }
  /** Something was thrown where nothing should be: the connection is cut off. */
  | { type: 'fault'; id: number; error: unknown };

export type NbdListener = (event: NbdEvent) => void;

/** What is known of a connection. Counts are since it was made. */
export interface ConnectionInfo {
  readonly id: number;
  /** Address of the client, empty for Unix sockets. */
  readonly peer: string;
  readonly phase: 'handshake' | 'transmission';
  readonly export: string | undefined;
  readonly encrypted: boolean;
  readonly requests: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly inFlight: number;
  /** Bytes of payload held for it. */
  readonly held: number;
}

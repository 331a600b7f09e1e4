/**
 * What `serve` is asked, and what it tells. Sizes in bytes, times in milliseconds.
 */
import type { FormatId, ImageType } from '../../formats/disk-image.js';
import type { NbdListener } from '../../nbd/events.js';
import type { NbdLimits } from '../../nbd/limits.js';
import type { NbdAddress } from '../../nbd/server.js';

export interface ServeImage {
  path: string;
  format?: FormatId;
  /** Name of the export; default: the base name of the path. */
  name?: string;
}

export interface ServeTls {
  /** Paths of PEM files. */
  certificate: string;
  key: string;
  /** Authorities whose clients are let in; with it clients must show a certificate. */
  clientAuthority?: string;
  /** Clients may go on without TLS. */
  optional?: boolean;
}

export interface ServeOptions {
  images: readonly ServeImage[];
  /** Default: 127.0.0.1:10809. */
  listen?: readonly NbdAddress[];
  /** Path of the control socket; none if not given. */
  control?: string;
  readOnly?: boolean;
  /** Changes go elsewhere: into a scratch file that nobody keeps, or into a differencing image. */
  overlay?: 'temp' | { path: string };
  /** Where scratch files lie; default: beside the image. */
  temporaryFolder?: string;
  /** Where the snapshots of the one image are; default: beside it. A block device has none without. */
  snapshotFolder?: string;
  tls?: ServeTls;
  limits?: Partial<NbdLimits>;
  /** Serve for writing although other images depend on it. */
  force?: boolean;
  /** End when the last client has gone. */
  exitOnDisconnect?: boolean;
  /** After how long changes are made durable without a client asking; default 5 s. */
  flushAfter?: number;
  /** How long requests under way may take when the server ends; default 10 s. */
  grace?: number;
  /** Ends the server cleanly. */
  signal?: AbortSignal;
  listener?: NbdListener;
}

/** One export, as the start document and the control socket show it. */
export interface ServedExport {
  name: string;
  path: string;
  format: FormatId;
  type: ImageType;
  virtualSize: number;
  readOnly: boolean;
  /** Where changes go when they do not go into the image. */
  overlay: string | null;
  /** What clients are given: one for each address. */
  uris: string[];
}

export interface ServeStart {
  exports: ServedExport[];
  listen: NbdAddress[];
  control: string | null;
  tls: 'none' | 'optional' | 'required';
  pid: number;
  /** What a person should know of what was found: an image that was changed by something else. */
  notices: string[];
}

/** Why a server ended. */
export type ServeEnd = 'signal' | 'shutdown' | 'disconnect';

/** A server that runs. */
export interface Serving {
  readonly start: ServeStart;
  /** Begins to stop. Ask `ended` for the end. */
  stop(reason: ServeEnd): void;
  /** Resolves when everything is flushed, closed and unlocked. @throws what closing an image threw */
  readonly ended: Promise<ServeEnd>;
}

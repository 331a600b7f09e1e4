/**
 * The snapshot commands for an image that a server has: asked of the server through its control socket.
 *
 * Paths go to the server absolute, because it runs in another folder. The server itself judges what is asked.
 */
import { resolve } from 'node:path';
import { VhdkitError } from '../../base/errors.js';
import { sameFile } from '../../io/file-system.js';
import { type ControlCall, controlPath, controlRequest } from '../../nbd/control-client.js';
import type { Host } from '../host.js';

/** Write-once snapshots are of raw disks, preserved volumes of every disk that clients can change. */
export type PastKind = 'snapshots' | 'volumes';

export interface ServerChoice {
  /** Socket of the server. */
  control: string;
  /** The image, or the name under which it is exported. */
  path: string;
  signal?: AbortSignal | undefined;
}

export interface LiveCall {
  kind: PastKind;
  method: ControlCall['method'];
  /** Behind the export's own. */
  segments?: readonly string[];
  body?: object;
}

export interface ServedImage {
  name: string;
  /** Absolute. */
  path: string;
}

function isServed(value: unknown): value is ServedImage {
  const { name, path } = (value ?? {}) as Partial<Record<string, unknown>>;
  return typeof name === 'string' && typeof path === 'string';
}

function notServed({ control, path }: ServerChoice, kind: PastKind): VhdkitError {
  const what = kind === 'snapshots' ? 'as a raw disk to write to' : 'to write to';
  return new VhdkitError('NOT_FOUND', `The server at ${control} does not serve ${path} ${what}`, {
    operation: 'find export',
    context: { path, control },
    hint:
      kind === 'snapshots'
        ? 'Look what it serves; without --control, snapshots are of images that nobody uses.'
        : 'Look what it serves: a read-only export and one with an overlay have no volumes.',
  });
}

/** The export that shows an image. @throws NOT_FOUND (no such server or export), PERMISSION_DENIED, CANCELLED */
export async function findServed(host: Host, choice: ServerChoice, kind: PastKind): Promise<ServedImage> {
  const { control, path, signal } = choice;
  const call = { method: 'GET' as const, path: controlPath('v1', kind) };
  const answer = await controlRequest(control, signal ? { ...call, signal } : call);
  const { images } = answer as { images?: unknown };
  const served = Array.isArray(images) ? images.filter(isServed) : [];
  const wanted = await host.fileSystem.identity(path);
  for (const image of served) {
    if (image.name === path) return image;
    const identity = wanted && (await host.fileSystem.identity(image.path));
    if (identity && sameFile(identity, wanted)) return image;
  }
  throw notServed(choice, kind);
}

/** Asks about an export that was found. @throws what the server throws, CANCELLED */
export async function askAbout<T extends object>(
  { name }: ServedImage,
  { control, signal }: ServerChoice,
  { kind, method, segments = [], body }: LiveCall,
): Promise<T> {
  const answer = await controlRequest(control, {
    method,
    path: controlPath('v1', 'exports', name, kind, ...segments),
    ...(body ? { body } : {}),
    ...(signal ? { signal } : {}),
  });
  const { schemaVersion: _, ...result } = answer as T & { schemaVersion?: number };
  return result as unknown as T;
}

/** @throws NOT_FOUND (no such server or export), CANCELLED, and what the server throws */
export async function askServer<T extends object>(
  host: Host,
  choice: ServerChoice,
  call: Omit<LiveCall, 'kind'>,
): Promise<T> {
  const kind = 'snapshots';
  return askAbout(await findServed(host, choice, kind), choice, { ...call, kind });
}

/** A path as the server takes it. */
export function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path);
}

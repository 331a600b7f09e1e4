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

export interface LiveCall {
  control: string;
  /** The image, or the name under which it is exported. */
  path: string;
  method: ControlCall['method'];
  /** Behind the export's own. */
  segments: readonly string[];
  body?: object;
  signal?: AbortSignal;
}

interface ServedImage {
  name: string;
  path: string;
}

function isServed(value: unknown): value is ServedImage {
  const { name, path } = (value ?? {}) as Partial<Record<string, unknown>>;
  return typeof name === 'string' && typeof path === 'string';
}

/** The name of the export that shows an image. @throws NOT_FOUND */
async function exportOf(host: Host, { control, path, signal }: LiveCall): Promise<string> {
  const answer = await controlRequest(control, {
    method: 'GET',
    path: '/v1/snapshots',
    ...(signal ? { signal } : {}),
  });
  const { images } = answer as { images?: unknown };
  const served = Array.isArray(images) ? images.filter(isServed) : [];
  const wanted = await host.fileSystem.identity(path);
  for (const image of served) {
    if (image.name === path) return image.name;
    const identity = wanted && (await host.fileSystem.identity(image.path));
    if (identity && sameFile(identity, wanted)) return image.name;
  }
  throw new VhdkitError(
    'NOT_FOUND',
    `The server at ${control} does not serve ${path} as a raw disk to write to`,
    {
      operation: 'find export',
      context: { path, control },
      hint: `Look what it serves; without --control, snapshots are of images that nobody uses.`,
    },
  );
}

/** @throws NOT_FOUND (no such server or export), CANCELLED, and what the server throws */
export async function askServer<T extends object>(host: Host, call: LiveCall): Promise<T> {
  const { control, method, segments, body, signal } = call;
  const name = await exportOf(host, call);
  const answer = await controlRequest(control, {
    method,
    path: controlPath('v1', 'exports', name, 'snapshots', ...segments),
    ...(body ? { body } : {}),
    ...(signal ? { signal } : {}),
  });
  const { schemaVersion: _, ...result } = answer as T & { schemaVersion?: number };
  return result as unknown as T;
}

/** A path as the server takes it. */
export function absolute(path: string | undefined): string | undefined {
  return path === undefined ? undefined : resolve(path);
}

/**
 * Which function answers which control request.
 *
 * Paths are made of segments; one that begins with a colon stands for any text and is handed over by its name:
 * `/v1/exports/:name/snapshots`. Segments are percent-decoded one by one, so names may have slashes in them.
 */
import { VhdkitError } from '../base/errors.js';

export type ControlMethod = 'GET' | 'POST' | 'PUT' | 'DELETE';

export interface ControlRequest {
  /** The segments that the route leaves open, by name. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  /** What came as JSON; undefined where nothing came. */
  readonly body: unknown;
  /** Aborted when the client goes away, or the server closes. */
  readonly signal: AbortSignal;
}

export interface ControlRoute {
  readonly method: ControlMethod;
  readonly path: string;
  /** Answers with what is sent as JSON. A VhdkitError is sent as an error with its code. */
  handle(request: ControlRequest): Promise<object>;
}

export interface MatchedRoute {
  route: ControlRoute;
  params: Record<string, string>;
}

/** The parts of a path, decoded. @throws INVALID_ARGUMENT */
function segmentsOf(path: string): string[] {
  try {
    return path.split('/').slice(1).map(decodeURIComponent);
  } catch {
    throw new VhdkitError('INVALID_ARGUMENT', 'The path of the request is not encoded as it should be', {
      operation: 'control',
      hint: 'Percent-encode names as UTF-8.',
    });
  }
}

function match(route: ControlRoute, segments: readonly string[]): Record<string, string> | undefined {
  const wanted = route.path.split('/').slice(1);
  if (wanted.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, want] of wanted.entries()) {
    const segment = segments[index] ?? '';
    if (want.startsWith(':')) {
      if (segment === '') return undefined;
      params[want.slice(1)] = segment;
    } else if (want !== segment) return undefined;
  }
  return params;
}

/**
 * @returns the route; `method` when the path is known with other methods only; undefined for an unknown path
 * @throws INVALID_ARGUMENT when the path is malformed
 */
export function findRoute(
  routes: readonly ControlRoute[],
  method: string,
  path: string,
): MatchedRoute | 'method' | undefined {
  const segments = segmentsOf(path);
  let known = false;
  for (const route of routes) {
    const params = match(route, segments);
    if (!params) continue;
    if (route.method === method) return { route, params };
    known = true;
  }
  return known ? 'method' : undefined;
}

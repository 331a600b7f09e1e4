/**
 * The control socket: HTTP/1.1 with JSON over a Unix socket that only its owner may use.
 *
 * Invariants: whoever may connect is decided by the socket's mode, 0600; bodies, heads, connections and the
 * time a request may take to arrive are bounded; whatever a client sends, it gets an answer as JSON or is cut
 * off, and the server goes on. Closing aborts what is under way.
 *
 * Not here: what the requests do (routes come from above).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { KiB } from '../base/bytes.js';
import { type ErrorCode, isVhdkitError, VhdkitError } from '../base/errors.js';
import { type PrivateSocket, privateSocket } from '../io/private-socket.js';
import { type ControlRoute, findRoute } from './control-routes.js';
import { assertUnanswered } from './unix-socket.js';

const MAX_BODY = 64 * KiB;
const MAX_CONNECTIONS = 32;
/** Milliseconds for a request to arrive, and for an idle connection. */
const ARRIVAL_TIME = 10_000;
const IDLE_TIME = 30_000;

const STATUS: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  READ_ONLY: 403,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  IN_USE: 409,
  UNSUPPORTED: 422,
  CANCELLED: 503,
  NO_SPACE: 507,
};

/** An error as it travels: in the shape that `--json` shows. */
export interface ControlError {
  error: { code: string; message: string; operation?: string; context?: object; hint?: string };
}

/** A refusal that is about HTTP and not about what was asked. */
class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

function errorBody(error: unknown): { status: number; body: ControlError } {
  if (error instanceof Refusal) {
    return { status: error.status, body: { error: { code: 'INVALID_ARGUMENT', message: error.message } } };
  }
  if (!isVhdkitError(error)) {
    const message = error instanceof Error ? error.message : String(error);
    return { status: 500, body: { error: { code: 'IO_FAILED', message } } };
  }
  const { code, message, operation, context, hint } = error;
  const more = { ...(operation === undefined ? {} : { operation }), ...(hint === undefined ? {} : { hint }) };
  return { status: STATUS[code] ?? 500, body: { error: { code, message, context, ...more } } };
}

/** Reads a body of bounded length as JSON. */
async function readBody(request: IncomingMessage): Promise<unknown> {
  const declared = Number(request.headers['content-length'] ?? 0);
  const tooLong = new Refusal(413, `A request has at most ${MAX_BODY} bytes`);
  if (declared > MAX_BODY) throw tooLong;
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY) throw tooLong;
    chunks.push(chunk);
  }
  if (length === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new Refusal(400, 'The request is not JSON');
  }
}

export class ControlServer {
  readonly #routes: readonly ControlRoute[];
  readonly #server: Server;
  readonly #closing = new AbortController();
  /** Answers that are being made. */
  readonly #underWay = new Set<Promise<void>>();
  #socket: PrivateSocket | undefined;

  constructor(routes: readonly ControlRoute[]) {
    this.#routes = routes;
    this.#server = createServer(
      {
        headersTimeout: ARRIVAL_TIME,
        requestTimeout: ARRIVAL_TIME,
        keepAliveTimeout: IDLE_TIME,
        connectionsCheckingInterval: 1000,
        maxHeaderSize: 16 * KiB,
      },
      (request, response) => this.#take(request, response),
    );
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('clientError', (_error, socket) => {
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
      else socket.destroy();
    });
  }

  /**
   * Starts to listen. A socket that a server left behind is replaced.
   * @throws IN_USE (a server answers there), ALREADY_EXISTS (no socket), INVALID_ARGUMENT, NOT_FOUND,
   *   PERMISSION_DENIED, IO_FAILED
   */
  async listen(path: string): Promise<void> {
    await assertUnanswered(path);
    const socket = await privateSocket(path);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject);
        this.#server.listen(socket.bindPath, () => {
          this.#server.off('error', reject);
          resolve();
        });
      });
      await socket.publish();
    } catch (error) {
      await socket.remove();
      this.#server.close();
      throw error;
    }
    this.#socket = socket;
  }

  /** Refuses new requests, aborts those under way, waits for their answers, and takes the socket away. */
  async close(): Promise<void> {
    if (!this.#socket) return;
    await this.#socket.remove();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#closing.abort();
    await Promise.all(this.#underWay);
    this.#server.closeAllConnections();
    await closed;
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const answer = this.#answer(request, response).finally(() => this.#underWay.delete(answer));
    this.#underWay.add(answer);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let status = 200;
    let body: object;
    try {
      body = await this.#handle(request, response);
    } catch (error) {
      ({ status, body } = errorBody(error));
      // What is left of a body nobody reads would be taken for the next request.
      if (!request.complete) response.setHeader('Connection', 'close');
    }
    if (response.destroyed) return;
    const text = `${JSON.stringify(body)}\n`;
    response.writeHead(status, {
      'Content-Type': 'application/json; charset=utf-8',
      'Content-Length': Buffer.byteLength(text),
    });
    await new Promise<void>((resolve) => {
      response.once('close', resolve);
      response.end(text, resolve);
    });
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<object> {
    const { method = '', url = '' } = request;
    const cut = url.indexOf('?');
    const path = cut < 0 ? url : url.slice(0, cut);
    const found = findRoute(this.#routes, method, path);
    if (found === undefined) {
      throw new VhdkitError('NOT_FOUND', `There is nothing at ${path}`, { operation: 'control' });
    }
    if (found === 'method') throw new Refusal(405, `${method} is not for ${path}`);
    const body = await readBody(request);
    const gone = new AbortController();
    const leave = (): void => gone.abort();
    response.once('close', leave);
    try {
      const signal = AbortSignal.any([gone.signal, this.#closing.signal]);
      const query = new URLSearchParams(cut < 0 ? '' : url.slice(cut + 1));
      return await found.route.handle({ params: found.params, query, body, signal });
    } finally {
      response.off('close', leave);
    }
  }
}

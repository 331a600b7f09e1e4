/**
 * Asking a server through its control socket.
 *
 * Invariant: an error of the server arrives as the same VhdkitError, with its code, context and hint; an answer
 * is JSON of bounded length or an error.
 */
import { type IncomingMessage, request } from 'node:http';
import { MiB } from '../base/bytes.js';
import { type ErrorCode, systemCode, throwIfAborted, VhdkitError } from '../base/errors.js';
import type { ControlMethod } from './control-routes.js';

const MAX_ANSWER = 16 * MiB;
const OPERATION = 'ask the server';

export interface ControlCall {
  method: ControlMethod;
  /** With percent-encoded segments: see `controlPath`. */
  path: string;
  /** Sent as JSON. */
  body?: object;
  signal?: AbortSignal;
}

/** A path out of segments: `controlPath('v1', 'exports', 'a/b')` is `/v1/exports/a%2Fb`. */
export function controlPath(...segments: readonly string[]): string {
  return `/${segments.map(encodeURIComponent).join('/')}`;
}

function unreachable(socket: string, error: unknown): VhdkitError {
  const code = systemCode(error);
  const absent = code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK';
  const context = { path: socket };
  if (absent) {
    return new VhdkitError('NOT_FOUND', `No server listens at ${socket}`, {
      operation: OPERATION,
      context,
      cause: error,
      hint: 'Start one with: vhdkit serve --control SOCKET.',
    });
  }
  const denied = code === 'EACCES' || code === 'EPERM';
  const reason = error instanceof Error ? error.message : String(error);
  const details = { operation: OPERATION, context, cause: error };
  if (!denied) return new VhdkitError('IO_FAILED', `Cannot ask the server at ${socket}: ${reason}`, details);
  return new VhdkitError('PERMISSION_DENIED', `The server at ${socket} belongs to another user`, {
    ...details,
    hint: 'A control socket is for the user that started the server.',
  });
}

async function readAnswer(socket: string, response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length <= MAX_ANSWER) chunks.push(chunk);
  }
  try {
    if (length > MAX_ANSWER) throw new Error('too long');
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new VhdkitError('IO_FAILED', `What answers at ${socket} is not a vhdkit server`, {
      operation: OPERATION,
      context: { path: socket },
      cause: error,
    });
  }
}

/** The error that an answer carries. */
function errorOf(socket: string, answer: unknown): VhdkitError {
  const { error } = (answer ?? {}) as { error?: Partial<Record<string, unknown>> };
  const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);
  const code = (text(error?.code) ?? 'IO_FAILED') as ErrorCode;
  const hint = text(error?.hint);
  const operation = text(error?.operation) ?? OPERATION;
  const context = error?.context;
  return new VhdkitError(code, text(error?.message) ?? `The server at ${socket} refused`, {
    operation,
    context: typeof context === 'object' && context !== null ? { ...context } : { path: socket },
    ...(hint === undefined ? {} : { hint }),
  });
}

/**
 * @returns what the server answers
 * @throws NOT_FOUND (no server), PERMISSION_DENIED, CANCELLED, IO_FAILED, and what the server throws
 */
export async function controlRequest(socket: string, call: ControlCall): Promise<unknown> {
  const { method, path, body, signal } = call;
  throwIfAborted(signal, OPERATION);
  const text = body === undefined ? '' : JSON.stringify(body);
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked = request(
        {
          socketPath: socket,
          method,
          path,
          agent: false,
          headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) },
          ...(signal ? { signal } : {}),
        },
        resolve,
      );
      asked.once('error', reject);
      asked.end(text);
    });
    const answer = await readAnswer(socket, response);
    if (response.statusCode === 200) return answer;
    throw errorOf(socket, answer);
  } catch (error) {
    if (error instanceof VhdkitError) throw error;
    throwIfAborted(signal, OPERATION);
    throw unreachable(socket, error);
  }
}

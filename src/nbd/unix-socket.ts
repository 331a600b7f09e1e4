/**
 * Unix sockets that servers left behind.
 *
 * Invariant: a socket that somebody answers at is never taken away, and nothing that is not a socket.
 */
import { connect } from 'node:net';
import { VhdkitError } from '../base/errors.js';
import { removeSocket, socketAt } from '../io/private-socket.js';

/** Whether somebody accepts connections at a socket. */
export function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}

/** @throws IN_USE when a server answers at the path */
export async function assertUnanswered(path: string): Promise<void> {
  if ((await socketAt(path)) !== 'socket' || !(await isAnswered(path))) return;
  throw new VhdkitError('IN_USE', `Another server listens at ${path}`, {
    operation: 'listen',
    context: { path },
    hint: 'Choose another path for the socket, or stop that server.',
  });
}

/** Makes a path free for a new socket. @throws IN_USE (a server answers there), ALREADY_EXISTS (no socket) */
export async function clearSocket(path: string): Promise<void> {
  const found = await socketAt(path);
  if (found === 'absent') return;
  if (found === 'other') {
    throw new VhdkitError('ALREADY_EXISTS', `${path} is there already, and is no socket`, {
      operation: 'listen',
      context: { path },
      hint: 'Choose another name for the socket.',
    });
  }
  await assertUnanswered(path);
  await removeSocket(path);
}

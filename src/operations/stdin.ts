/**
 * Reading stdin where it is a pipe, for commands: nothing but the way from cli/ to io/.
 */
export { readPipe } from '../io/stream-stdin.js';

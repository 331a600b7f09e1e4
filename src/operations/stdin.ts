/**
 * Reading stdin, for commands: nothing but the way from cli/ to io/.
 */
export { bytesLeft, readDescriptor } from '../io/stream-descriptor.js';
export { readPipe } from '../io/stream-stdin.js';

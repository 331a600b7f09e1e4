/** ABORT: the client wants nothing more; it is acknowledged, then the connection is closed. */
import type { OptionHandler } from '../negotiation.js';
import { OptionReply } from '../protocol.js';

export const abort: OptionHandler = (negotiation) => {
  negotiation.reply(OptionReply.ACK);
  return { next: 'close' };
};

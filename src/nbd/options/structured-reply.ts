/** STRUCTURED_REPLY: replies to READ, and errors, come in chunks from now on. */
import { invalid, type OptionHandler } from '../negotiation.js';
import { OptionReply } from '../protocol.js';

export const structuredReply: OptionHandler = (negotiation, data) => {
  if (data.length > 0) return invalid(negotiation, 'STRUCTURED_REPLY takes no data');
  negotiation.agreed.structured = true;
  negotiation.reply(OptionReply.ACK);
  return undefined;
};

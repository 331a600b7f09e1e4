/**
 * STARTTLS: what follows the acknowledgement is encrypted; all that was agreed upon before is forgotten
 * (by handshake.ts, which begins anew).
 */
import { invalid, type OptionHandler, refuse } from '../negotiation.js';
import { OptionReply } from '../protocol.js';

export const starttls: OptionHandler = (negotiation, data) => {
  if (data.length > 0) return invalid(negotiation, 'STARTTLS takes no data');
  if (negotiation.tls === 'active') return invalid(negotiation, 'the connection is encrypted already');
  if (negotiation.tls === 'none')
    return refuse(negotiation, OptionReply.ERR_POLICY, 'this server has no certificate');
  negotiation.reply(OptionReply.ACK);
  return { next: 'encrypt' };
};

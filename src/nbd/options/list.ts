/**
 * LIST: the exports by name and description.
 *
 * Exports are no secret here: where TLS is demanded, nobody gets so far without it.
 */
import { invalid, type OptionHandler } from '../negotiation.js';
import { OptionReply } from '../protocol.js';

export const list: OptionHandler = (negotiation, data) => {
  if (data.length > 0) return invalid(negotiation, 'LIST takes no data');
  for (const { name, description = '' } of negotiation.table.list()) {
    const bytes = Buffer.from(name);
    const server = Buffer.alloc(4 + bytes.length);
    server.writeUInt32BE(bytes.length);
    bytes.copy(server, 4);
    negotiation.reply(OptionReply.SERVER, Buffer.concat([server, Buffer.from(description)]));
  }
  negotiation.reply(OptionReply.ACK);
  return undefined;
};

/**
 * EXPORT_NAME: the oldest way to choose an export. It has no reply header and cannot fail but by a closed connection;
 * the padding that follows is left out for clients that said so.
 */

import { transmissionFlags } from '../export-info.js';
import { resolveExport } from '../export-table.js';
import { decodeString, type OptionHandler } from '../negotiation.js';
import { putOffset } from '../replies.js';

const PADDING = 124;

export const exportName: OptionHandler = (negotiation, data) => {
  const name = decodeString(data);
  const exported = name === undefined ? undefined : resolveExport(negotiation.table, name);
  if (exported === undefined)
    return { next: 'close', protocol: 'EXPORT_NAME of an export that is not there' };
  const reply = Buffer.alloc(negotiation.noZeroes ? 10 : 10 + PADDING);
  putOffset(reply, 0, exported.device.size);
  reply.writeUInt16BE(transmissionFlags(exported, negotiation.agreed.structured), 8);
  negotiation.raw(reply);
  return { next: 'transmit', exported };
};

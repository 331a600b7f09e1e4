/**
 * INFO and GO: what an export is; GO goes on with it.
 *
 * A client that does not ask for the block sizes gets them all the same, and has EINVAL for requests that do not
 * keep to them; nobody is turned away for not asking.
 */

import { sendInformation } from '../export-info.js';
import { type NbdExport, resolveExport } from '../export-table.js';
import { invalid, type Negotiation, OptionData, type OptionHandler, refuse } from '../negotiation.js';
import { OptionReply } from '../protocol.js';

/** Answers everything but the outcome: the export, or nothing where the answer was an error. */
function answer(negotiation: Negotiation, data: Buffer): NbdExport | undefined {
  const fields = new OptionData(data);
  const name = fields.string();
  const count = fields.u16();
  const wanted = new Set<number>();
  for (let index = 0; index < (count ?? 0); index++) {
    const type = fields.u16();
    if (type === undefined) break;
    wanted.add(type);
  }
  if (name === undefined || count === undefined || !fields.isAtEnd || data.length !== sizeOf(name, count)) {
    invalid(negotiation, 'malformed: a name and a list of information types are needed');
    return undefined;
  }
  const exported = resolveExport(negotiation.table, name);
  if (exported === undefined) {
    refuse(negotiation, OptionReply.ERR_UNKNOWN, 'no such export');
    return undefined;
  }
  sendInformation(negotiation, exported, wanted);
  negotiation.reply(OptionReply.ACK);
  return exported;
}

function sizeOf(name: string, count: number): number {
  return 4 + Buffer.byteLength(name) + 2 + 2 * count;
}

export const info: OptionHandler = (negotiation, data) => {
  answer(negotiation, data);
  return undefined;
};

export const go: OptionHandler = (negotiation, data) => {
  const exported = answer(negotiation, data);
  return exported && { next: 'transmit', exported };
};

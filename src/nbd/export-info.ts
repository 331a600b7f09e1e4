/**
 * What clients are told of an export: its flags, its block sizes, and these as information replies.
 *
 * A flag is set only where the device can do it; a client that uses something anyway gets EINVAL.
 */

import type { NbdExport } from './export-table.js';
import type { Negotiation } from './negotiation.js';
import { Info, OptionReply, TransmissionFlag } from './protocol.js';
import { putOffset } from './replies.js';

export function isReadOnly({ readOnly, device }: NbdExport): boolean {
  return readOnly || !device.capabilities.writable;
}

/** `structured`: structured replies were agreed upon; DF means something only then. */
export function transmissionFlags(exported: NbdExport, structured: boolean): number {
  const { capabilities } = exported.device;
  const flag = TransmissionFlag;
  let flags = flag.HAS_FLAGS | flag.SEND_FLUSH | flag.SEND_FUA | flag.SEND_CACHE;
  if (structured) flags |= flag.SEND_DF;
  if (capabilities.multiConn) flags |= flag.CAN_MULTI_CONN;
  if (isReadOnly(exported)) return flags | flag.READ_ONLY;
  flags |= flag.SEND_WRITE_ZEROES;
  if (capabilities.trim) flags |= flag.SEND_TRIM;
  if (capabilities.fastZero) flags |= flag.SEND_FAST_ZERO;
  return flags;
}

function information(type: number, size: number): Buffer {
  const data = Buffer.alloc(2 + size);
  data.writeUInt16BE(type);
  return data;
}

function text(type: number, value: string): Buffer {
  const bytes = Buffer.from(value);
  const data = information(type, bytes.length);
  bytes.copy(data, 2);
  return data;
}

/** The information replies to INFO and GO: size and block sizes always, names where `wanted`. */
export function sendInformation(
  negotiation: Negotiation,
  exported: NbdExport,
  wanted: ReadonlySet<number>,
): void {
  const { device } = exported;
  const size = information(Info.EXPORT, 10);
  putOffset(size, 2, device.size);
  size.writeUInt16BE(transmissionFlags(exported, negotiation.agreed.structured), 10);
  negotiation.reply(OptionReply.INFO, size);
  if (wanted.has(Info.NAME)) negotiation.reply(OptionReply.INFO, text(Info.NAME, exported.name));
  if (wanted.has(Info.DESCRIPTION) && exported.description)
    negotiation.reply(OptionReply.INFO, text(Info.DESCRIPTION, exported.description));
  const blocks = information(Info.BLOCK_SIZE, 12);
  blocks.writeUInt32BE(device.blockSize, 2);
  blocks.writeUInt32BE(Math.max(device.preferredSize, device.blockSize, 512), 6);
  blocks.writeUInt32BE(negotiation.limits.requestBytes, 10);
  negotiation.reply(OptionReply.INFO, blocks);
}

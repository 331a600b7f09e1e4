/**
 * GUIDs in their two byte orders.
 *
 * Microsoft structures store the first three fields little-endian ("mixed endian"); VHD treats its ids
 * as sixteen opaque bytes. Text is always lower case without braces.
 */
import { assert } from './assert.js';

const GUID_BYTES = 16;

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

function dashed(text: string): string {
  return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
}

function swapFields(bytes: Uint8Array): Uint8Array {
  assert(bytes.length === GUID_BYTES, 'a GUID has 16 bytes');
  const out = Uint8Array.from(bytes);
  out.subarray(0, 4).reverse();
  out.subarray(4, 6).reverse();
  out.subarray(6, 8).reverse();
  return out;
}

/** Text of a GUID stored in Microsoft's mixed-endian order (VHDX, GPT). */
export function guidFromMixedEndian(bytes: Uint8Array): string {
  return dashed(hex(swapFields(bytes)));
}

/** Text of sixteen bytes in the order they are stored (VHD unique ids). */
export function guidFromBytes(bytes: Uint8Array): string {
  assert(bytes.length === GUID_BYTES, 'a GUID has 16 bytes');
  return dashed(hex(bytes));
}

/** The sixteen bytes of a GUID text in the order of its digits. Braces and case do not matter. */
export function guidToBytes(text: string): Uint8Array {
  const digits = text.replace(/[{}-]/g, '');
  assert(/^[0-9a-fA-F]{32}$/.test(digits), `not a GUID: ${text}`);
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}

/** The mixed-endian bytes of a GUID text. */
export function guidToMixedEndian(text: string): Uint8Array {
  return swapFields(guidToBytes(text));
}

/** Lower case, without braces; undefined when the text is no GUID. */
export function normalizeGuid(text: string): string | undefined {
  const digits = text.trim().replace(/[{}-]/g, '').toLowerCase();
  return /^[0-9a-f]{32}$/.test(digits) ? dashed(digits) : undefined;
}

export const NIL_GUID = '00000000-0000-0000-0000-000000000000';
